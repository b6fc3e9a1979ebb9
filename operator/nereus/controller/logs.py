"""Logging: one line per decision or change; JSON for collectors, plain text on a terminal."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from nereus.controller.refusals import RefusedError

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLines(logging.Formatter):
    """One JSON object per line; what is given as `extra` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extra(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextLines(logging.Formatter):
    """For people: time, level, message, and what it is about."""

    def format(self, record: logging.LogRecord) -> str:
        extra = " ".join(f"{name}={value}" for name, value in _extra(record).items())
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()}{'  ' + extra if extra else ''}"
        return line + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def configure(*, level: str, form: str) -> None:
    """Send the whole process's log to stderr in one form: `json`, `text`, or `auto` (text on a terminal)."""
    as_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextLines() if as_text else JsonLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    if level != "debug":
        handler.addFilter(_told_elsewhere)
    # What kopf says of each event it handles is ours to say.
    logging.getLogger("kopf").setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _told_elsewhere(record: logging.LogRecord) -> bool:
    """Leaves out what kopf says of each try of a call that is refused: refusals.py tells it, with what can be done."""
    return not (record.name.startswith("kopf") and RefusedError.__name__ in record.getMessage())


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD and not name.startswith("_")}
