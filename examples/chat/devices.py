"""What to call a device in its owner's list: a guess from the `User-Agent` header, good enough to tell two apart."""

from typing import Final

# The first match wins: browsers also name those that they descend from.
_BROWSERS: Final = {
    "Edg": "Edge",
    "OPR": "Opera",
    "SamsungBrowser": "Samsung Internet",
    "Firefox": "Firefox",
    "FxiOS": "Firefox",
    "CriOS": "Chrome",
    "Chrome": "Chrome",
    "Safari": "Safari",
    "curl": "curl",
}
_SYSTEMS: Final = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Mac OS": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}
_PHONES: Final = ("iPhone", "Android")


def device_of(user_agent: str) -> dict[str, str]:
    """Metadata for a session: `device`, such as "Firefox on Linux", and `kind`, `phone` or `computer`.

    Words from these tables only: what the header says besides is nobody's business.
    """
    browser = next((shown for mark, shown in _BROWSERS.items() if mark in user_agent), "A browser")
    system = next((shown for mark, shown in _SYSTEMS.items() if mark in user_agent), None)
    return {
        "device": browser if system is None else f"{browser} on {system}",
        "kind": "phone" if system in _PHONES else "computer",
    }
