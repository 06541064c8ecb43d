"""The one manager of a process, for applications that want no object of their own to pass around."""

import os

from holdfast.sessions.manager import SessionManager

_managers: dict[int, SessionManager] = {}
# Never collected: their connections are a parent's, and destructors would end them for the parent as well.
_inherited: list[SessionManager] = []


def get_session_manager() -> SessionManager:
    """The one manager of this process, made from the environment at the first call; a forked child gets its own.

    It is not opened yet: use it with `async with`, or await its `open()`, once, where the application starts.
    """
    process = os.getpid()
    if process not in _managers:
        # What a forked child inherits belongs to its parent. Not looked up by number: numbers are used again.
        _inherited.extend(_managers.values())
        _managers.clear()
        _managers[process] = SessionManager.from_environment()
    return _managers[process]
