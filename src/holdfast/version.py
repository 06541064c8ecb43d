"""Which version this is."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """The installed version; `0` when the package runs from its sources without being installed."""
    try:
        return version("holdfast")
    except PackageNotFoundError:
        return "0"
