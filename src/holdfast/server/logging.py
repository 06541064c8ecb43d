"""Log lines that hold no token and that no client can forge, as text or as JSON, on standard error.

The cleaning sits on the handler, so that it covers the lines of every library too.
"""

import logging
import re
import sys
import time
import traceback
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter

from holdfast.server.correlation import current
from holdfast.sessions.tokens import SECRET_PATTERN

HIDDEN: Final = "hf?_hidden"

_TOKEN: Final = re.compile(SECRET_PATTERN)
# C0 and C1 controls, line and paragraph separators, and what changes the direction or the visibility of text.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "correlation_id"}


def clean(text: str) -> str:
    """The text without tokens, and with everything that moves a terminal's cursor written out."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", _TOKEN.sub(HIDDEN, text))


class Cleaner(logging.Filter):
    """Cleans a record before any formatter sees it, and gives it the correlation id."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, cleaned. Safe to repeat."""
        record.msg, record.args = clean(record.getMessage()), ()
        if record.exc_info:
            # Text from here on: a formatter would write the exception out again, uncleaned.
            record.exc_text = "".join(traceback.format_exception(*record.exc_info))
            record.exc_info = None
        if record.exc_text:
            # Indented, so that a line break in an exception's message begins no line of its own.
            record.exc_text = "\n".join(f"    {clean(line)}" for line in record.exc_text.splitlines())
        for name, value in vars(record).items():
            if name not in _STANDARD and value is not None and not isinstance(value, int | float):
                setattr(record, name, clean(str(value)))
        record.correlation_id = clean(str(getattr(record, "correlation_id", current.get())))
        return True


def configure(level: str, json_lines: bool, stream: Any = None) -> None:
    """Send the log of the whole process to a stream, or to standard error. Replaces what was configured."""
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.addFilter(Cleaner())
    handler.setFormatter(_json_formatter() if json_lines else _text_formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.disabled = False
        logger.propagate = True
    # What they say at every start and stop is said by us, in one line each.
    for name in ("uvicorn.error", "alembic"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING) if root.level > logging.DEBUG else root.level)
    server = logging.getLogger("uvicorn.error")
    if root.level <= logging.DEBUG:
        # At debug level the WebSocket library writes out every header and every message under this name.
        server.setLevel(logging.INFO)
    server.filters[:] = [_names_no_address]
    # It would write raw paths and queries; ours writes the route's template.
    logging.getLogger("uvicorn.access").disabled = True


def _names_no_address(record: logging.LogRecord) -> bool:
    """Whether it is not uvicorn's line for a handshake, with the path and the query as they were sent; ours has it."""
    return '"WebSocket %s"' not in str(record.msg)


def _text_formatter() -> logging.Formatter:
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s [%(correlation_id)s]")
    formatter.converter = time.gmtime
    formatter.default_time_format = "%Y-%m-%dT%H:%M:%S"
    formatter.default_msec_format = "%s.%03dZ"
    return formatter


def _json_formatter() -> logging.Formatter:
    return JsonFormatter(
        "%(levelname)s %(name)s %(message)s %(correlation_id)s",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp=True,
    )
