"""Logs: one JSON object per line on stderr, with everything that must stay private taken out before it is written.

Two nets catch what a careless call might let through: fields with a telling name are dropped, and any run of seven
or more digits (a phone number, a LID) is cut to its last four (contract A.0). Instance ids that contain a phone
number are cut too.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_LONG_DIGITS = re.compile(r"\d{7,}")
_PRIVATE = frozenset(
    {"text", "body", "qr", "message", "payload", "secret", "token", "password", "authorization", "key"}
)
_EXEMPT = frozenset({"ts"})


def mask_numbers(text: str) -> str:
    """The text with every long run of digits cut to `***` and its last four."""
    return _LONG_DIGITS.sub(lambda match: f"***{match.group()[-4:]}", text)


def mask_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: drop private fields, mask numbers in all others."""
    for name, value in list(event.items()):
        if name in _PRIVATE:
            event[name] = "[REDACTED]"
        elif isinstance(value, str) and name not in _EXEMPT:
            event[name] = mask_numbers(value)
    return event


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
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
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
