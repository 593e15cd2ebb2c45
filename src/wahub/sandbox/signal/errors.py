"""What can go wrong when a Signal message is read or written."""

from __future__ import annotations


class SignalError(Exception):
    """Base of all Signal errors. The text never contains keys or plaintext."""


class NoSessionError(SignalError):
    """There is no session (or no open one) with that device: fetch its key bundle, or ask it to send again."""


class UndecryptableError(SignalError):
    """The message is malformed, or no session with that device can read it."""


class KeyUsedError(UndecryptableError):
    """The message was read before (or skipped too long ago): its key is gone, which is the point of the ratchet."""


class UnknownPreKeyError(UndecryptableError):
    """The message names a prekey that this device never offered or has used up."""


class BadSignatureError(SignalError):
    """A signed prekey is not signed by the identity it comes with."""
