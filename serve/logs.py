"""What the front has to tell, as structured logs: one JSON object a line."""

import json
import logging
import math
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, Literal

Event = Literal["started", "stopped", "refused", "late", "failed", "engine_lost", "malformed"]
Value = str | int | float | bool | None

_LEVELS: dict[Event, int] = {
    "started": logging.INFO,
    "stopped": logging.INFO,
    "refused": logging.WARNING,
    "late": logging.WARNING,
    "failed": logging.WARNING,
    "engine_lost": logging.ERROR,
    "malformed": logging.WARNING,
}
_OWN = ("time", "level", "event")
_MOST_LETTERS = 500
_FILE_BYTES, _NUM_OLD_FILES = 10 << 20, 3

_logger = logging.getLogger("graphdrl.oracle")


def event(name: Event, **fields: Value) -> None:
    """Write down that something happened.

    fields: what a reader needs to find it again: `client`, `question` (its number), counts with the names that
    `ClientCounts` has, `reason` for an error's sentence. Texts are cut after 500 letters.
    """
    assert not set(fields) & set(_OWN), fields
    _logger.log(_LEVELS[name], name, extra={"fields": fields})


def open_log(file: Path | None = None) -> None:
    """From now on events go to this file, or to standard error; a log that was open before is closed.

    The file is begun anew at 10 MiB, and the last three are kept beside it.
    """
    close_log()
    handler: logging.Handler = logging.StreamHandler()
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(file, maxBytes=_FILE_BYTES, backupCount=_NUM_OLD_FILES, encoding="utf-8")
    handler.setFormatter(JsonFormatter())
    _logger.addHandler(handler)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False


def close_log() -> None:
    """Events go nowhere of their own any more."""
    for handler in list(_logger.handlers):
        _logger.removeHandler(handler)
        handler.close()
    _logger.setLevel(logging.NOTSET)
    _logger.propagate = True


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON in ASCII, whatever a client called itself: no name can forge a line."""

    def format(self, record: logging.LogRecord) -> str:
        own = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        fields: dict[str, Any] = getattr(record, "fields", {})
        return json.dumps(own | {name: _plain(value) for name, value in fields.items()})


def _plain(value: Value) -> Value:
    if isinstance(value, str):
        return value if len(value) <= _MOST_LETTERS else value[:_MOST_LETTERS] + "..."
    # JSON has neither NaN nor infinity.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
