"""Log lines: one JSON object per change on stdout, plain text when a person looks at a terminal.

Here because every module logs the same way. What must not be in a log is taken out here: the user name, password and
query of an address may be credentials.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

_LOGGER = logging.getLogger("nereus.sidecar")


def setup(*, level: str = "INFO") -> None:
    """Sends the log to stdout; libraries speak from WARNING on."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Text() if sys.stdout.isatty() else _Json())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level)


def info(message: str, **fields: object) -> None:
    """One change or decision: what in words, and the values beside it."""
    _LOGGER.info(message, extra={"fields": fields})


def warning(message: str, **fields: object) -> None:
    """Something that a person should know and that is handled."""
    _LOGGER.warning(message, extra={"fields": fields})


def exception(message: str, **fields: object) -> None:
    """An error that no code expected, with its traceback."""
    _LOGGER.exception(message, extra={"fields": fields})


def redact(uri: str) -> str:
    """The address without what may be a credential: user information and query."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "(an address that cannot be parsed)"
    host = parts.netloc.rsplit("@", 1)[-1]
    return urlunsplit((parts.scheme, host, parts.path, "[redacted]" if parts.query else "", ""))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.name != _LOGGER.name:
            line["logger"] = record.name
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        fields = " ".join(f"{name}={value}" for name, value in getattr(record, "fields", {}).items())
        line = f"{time} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip()
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
