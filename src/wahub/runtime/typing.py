"""What happens before a claim: WhatsApp is asked about the number, and the chat sees somebody type (contract C.8).

Neither ever blocks a send: a question without an answer means "send", a typing indicator that cannot be shown is
skipped, and typing takes at most `TypingPolicy.cap` seconds.
"""

from __future__ import annotations

import asyncio

import structlog

from wahub.domain.ids import mask_chat
from wahub.domain.outbox import Entry
from wahub.ports.clock import Clock
from wahub.ports.engine import Link
from wahub.services.outbox import Prepare, Prepared

log = structlog.get_logger("wahub.typing")


async def prepare(link: Link, clock: Clock, todo: Prepare, cap: float) -> Prepared:
    """Do what the item needs before its claim; returns what was learned."""
    exists = await link.exists(todo.entry.chat) if todo.ask else None
    if exists is not False:
        await _type(link, clock, todo, cap)
    return Prepared(todo.entry.id, asked=todo.ask, exists=exists)


async def stop_typing(link: Link, entry: Entry) -> None:
    """The indicator goes, also after a failed send."""
    await link.show_typing(entry.chat, False)


async def _type(link: Link, clock: Clock, todo: Prepare, cap: float) -> None:
    entry = todo.entry
    if not todo.typing:
        _log_skipped(entry, todo.skipped or "disabled")
        return
    showing = asyncio.ensure_future(link.show_typing(entry.chat, True))
    # Typing lasts as long as was forecast, whether the indicator came through at once or not.
    await clock.sleep(min(todo.typing, cap))
    if not showing.done() or not showing.result():
        showing.cancel()
        _log_skipped(entry, "typing_start_failed")
        return
    chat, shown = mask_chat(str(entry.chat)), round(todo.typing * 1000)
    log.info("[%s] [Typing] Applied: true, typingMs: %d, chatId: %s", entry.instance, shown, chat)


def _log_skipped(entry: Entry, reason: str) -> None:
    log.debug("[%s] [Typing] Skipped: %s (chatId: %s)", entry.instance, reason, mask_chat(str(entry.chat)))
