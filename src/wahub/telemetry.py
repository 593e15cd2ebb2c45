"""Logs: one JSON object per line on stderr, with everything that must stay private taken out before it is written.

Two nets catch what a careless call might let through: fields with a telling name are dropped, and any run of seven
or more digits (a phone number, a LID) is cut to its last four (contract A.0). Instance ids that contain a phone
number are cut too. Ids of messages, events and contacts stay whole, because a log is read by searching for them.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_WORD = "[0-9A-Za-z]"
_IDS = (
    "[0-9a-f]{32}",  # events, queue items
    "[0-9A-F]{18,32}",  # WhatsApp's ids of messages: 3EB0 and more, or those of phones
    "(?<=c_)[0-9a-f]{20}",  # contacts
)
_ID_OR_NUMBER = re.compile(rf"(?<!{_WORD})(?:{'|'.join(_IDS)})(?!{_WORD})|\d{{7,}}")
_LETTER = re.compile("[A-Fa-f]")
_PRIVATE = frozenset(
    {"text", "body", "qr", "message", "payload", "secret", "token", "password", "authorization", "key"}
)
_EXEMPT = frozenset({"ts"})


def mask_numbers(text: str) -> str:
    """The text with every long run of digits cut to `***` and its last four, except inside of ids.

    An id is a whole word of the length of one, of hex digits and with a letter among them: no number looks like that.
    """
    return _ID_OR_NUMBER.sub(_cut, text)


def _cut(found: re.Match[str]) -> str:
    return found.group() if _LETTER.search(found.group()) else f"***{found.group()[-4:]}"


def mask_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: drop private fields, mask numbers in all others."""
    for name, value in list(event.items()):
        if name in _PRIVATE:
            event[name] = "[REDACTED]"
        elif isinstance(value, str) and name not in _EXEMPT:
            event[name] = mask_numbers(value)
    return event


class _Lines:
    """What our own loggers write to. By way of `logging` a line would cost more than twice as much."""

    def __init__(self, name: str = "wahub") -> None:
        self.name = name

    def msg(self, line: str) -> None:
        """Write one line to stderr, whatever that is now. If nobody can read it, the line is lost and nothing else."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    debug = info = warning = error = critical = exception = log = msg


def configure(level: str) -> None:
    """Send all logs, ours and those of libraries, to stderr at `level` (debug, info, warning, error)."""
    threshold = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.processors.format_exc_info,
        mask_event,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(ensure_ascii=False)],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for chatty in ("httpx", "httpcore", "alembic", "uvicorn.access", "asyncio"):
        logging.getLogger(chatty).setLevel(max(threshold, logging.WARNING))
