"""Every error of the product, on one screen.

WahubError
├── CallerError                  the caller can mend it; `status` is the HTTP status
│   ├── InvalidInstanceIdError   400
│   ├── InvalidChatIdError       400
│   ├── InvalidFieldError        400  a field is missing or wrong; the text names it
│   ├── NeedsQrError             400  the instance waits for a scan; the text contains `QR`
│   ├── NotReadyError            400  only a ready instance can do it
│   ├── QueueEmptyError          400
│   ├── InstanceNotFoundError    404
│   ├── RequestNotFoundError     404
│   ├── MessageNotFoundError     404
│   ├── NoMediaError             404  the message has no file
│   ├── ChatNotFoundError        404  no such contact; a number that nobody wrote from is an empty chat
│   ├── MessageAmbiguousError    409  several messages have that id
│   ├── InstanceExistsError      409→400 by contract: lost race on the same id
│   ├── KeyReusedError           409  an explicit idempotency key with another payload
│   ├── NotCancellableError      409  it was on the wire, or is settled
│   ├── NotRetryableError        409
│   ├── NotUnknownError          409  only an unknown fate can be resolved
│   ├── MediaGoneError           410  WhatsApp no longer has the file
│   ├── MediaForgottenError      410  what it takes to fetch the file was forgotten with the message's text
│   ├── MediaTooLargeError       413
│   └── QueueFullError           429
├── StaleLeaseError              this worker's lease is gone: stop touching the instance
├── StoreBusyError               another worker holds the SQLite store
├── LinkError
│   ├── EngineDownError          the engine process is not running
│   ├── PairingRefusedError      no pairing code can be had on this link now
│   ├── MediaBrokenError         WhatsApp did not give the file, or not the one that was sent
│   └── MediaUnavailableError    the file cannot be fetched now; `retry_after` says when to ask again
├── OvertakenError               what a timer wanted to act on is no more: nothing is done
└── IllegalTransitionError       the state table forbids it: a bug, never a caller's mistake
"""

from __future__ import annotations


class WahubError(Exception):
    """The root of the tree."""


class CallerError(WahubError):
    """Something the caller did. `str()` is the text of the reply; it names the field and the remedy."""

    status = 400


class InvalidInstanceIdError(CallerError):
    def __init__(self) -> None:
        super().__init__("Invalid instance ID")


class InvalidChatIdError(CallerError):
    def __init__(self) -> None:
        super().__init__("Invalid chatId format")


class InvalidFieldError(CallerError):
    """A field is missing or has the wrong shape."""


class NeedsQrError(CallerError):
    """Sends are refused while the instance waits for a scan (contract I-5)."""

    def __init__(self, instance: str) -> None:
        super().__init__(
            f"Instance {instance} is not linked: scan the QR code first (GET /instances/{instance}/client/qr)"
        )


class NotReadyError(CallerError):
    def __init__(self, state: str) -> None:
        super().__init__(f"Instance is not ready. Current state: {state}")


class QueueEmptyError(CallerError):
    def __init__(self) -> None:
        super().__init__("Queue is empty: there is nothing to send")


class InstanceNotFoundError(CallerError):
    status = 404

    def __init__(self, instance: str) -> None:
        super().__init__(f"Instance {instance} not found")


class RequestNotFoundError(CallerError):
    status = 404

    def __init__(self, queue_id: str) -> None:
        super().__init__(f"Request {queue_id} not found")


class ChatNotFoundError(CallerError):
    status = 404

    def __init__(self, contact: str) -> None:
        super().__init__(f"Contact {contact} not found")


class MessageNotFoundError(CallerError):
    status = 404

    def __init__(self) -> None:
        # The id is the sender's choice: it is not repeated.
        super().__init__("Message not found: it was never received, or is kept no more")


class NoMediaError(CallerError):
    status = 404

    def __init__(self) -> None:
        super().__init__("This message has no file")


class MediaGoneError(CallerError):
    status = 410

    def __init__(self) -> None:
        super().__init__("WhatsApp no longer has this file: ask the sender to send it again")


class MessageAmbiguousError(CallerError):
    status = 409

    def __init__(self) -> None:
        super().__init__("Messages of several people have this id, and whose file is meant cannot be told")


class MediaForgottenError(CallerError):
    status = 410

    def __init__(self) -> None:
        super().__init__("This message is kept no more, and its file with it: see MESSAGES_RETENTION_DAYS")


class MediaTooLargeError(CallerError):
    status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(f"The file is larger than {limit} bytes: raise MEDIA_MAX_MB to fetch it")


class InstanceExistsError(CallerError):
    def __init__(self, instance: str) -> None:
        super().__init__(f"Instance {instance} already exists")


class KeyReusedError(CallerError):
    status = 409

    def __init__(self) -> None:
        super().__init__("idempotencyKey was already used with another payload: use a new key or send the same payload")


class NotCancellableError(CallerError):
    status = 409

    def __init__(self, queue_id: str, state: str) -> None:
        super().__init__(f"Request {queue_id} is {state}: only an item that never was on the wire can be cancelled")


class NotRetryableError(CallerError):
    status = 409

    def __init__(self, queue_id: str, state: str, successor: str | None = None) -> None:
        remedy = "resolve it instead" if state == "unknown" else "send a new message instead"
        if successor is not None:
            remedy = f"its message was accepted anew as request {successor}"
        super().__init__(f"Request {queue_id} is {state} and cannot be tried again: {remedy}")


class NotUnknownError(CallerError):
    status = 409

    def __init__(self, queue_id: str, state: str) -> None:
        super().__init__(f"Request {queue_id} is {state}: only an item in state unknown can be resolved")


class QueueFullError(CallerError):
    status = 429

    def __init__(self, limit: int) -> None:
        super().__init__(f"Queue full. Maximum queue size ({limit}) reached.")


class StaleLeaseError(WahubError):
    """A write named a lease term that is no longer the current one; nothing was written."""


class StoreBusyError(WahubError):
    """SQLite serves exactly one worker, and another one has the store."""


class LinkError(WahubError):
    """Something between us and WhatsApp."""


class EngineDownError(LinkError):
    """The engine process is not running; the link it held is gone."""


class PairingRefusedError(LinkError):
    """No pairing code can be had: the text says why, without the number."""


class MediaBrokenError(LinkError):
    """The media servers had an answer, and it was not the file. The text is for the caller."""


class MediaUnavailableError(LinkError):
    """The file cannot be fetched at this moment. The text is for the caller; `retry_after` is in seconds."""

    def __init__(self, text: str, retry_after: int) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class OvertakenError(WahubError):
    """The fact that a timer rang for was gone when it acted; nothing was changed."""


class IllegalTransitionError(WahubError):
    """An event that the state table does not allow in this state."""
