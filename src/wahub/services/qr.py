"""QR pictures of pairing codes."""

from __future__ import annotations

import base64
import io

import segno

_SCALE = 6
_QUIET_ZONE = 4
"""Modules of white border; the standard (ISO/IEC 18004) asks for four."""


def png(text: str) -> bytes:
    """The code as a PNG picture."""
    out = io.BytesIO()
    segno.make(text, error="l", micro=False).save(out, kind="png", scale=_SCALE, border=_QUIET_ZONE)
    return out.getvalue()


def svg(text: str) -> bytes:
    """The code as an SVG picture, UTF-8, black on white."""
    out = io.BytesIO()
    segno.make(text, error="l", micro=False).save(out, kind="svg", scale=_SCALE, border=_QUIET_ZONE, light="white")
    return out.getvalue()


def png_base64(text: str) -> str:
    """The PNG as base64 without a `data:` prefix, as callers expect it (contract A.1)."""
    return base64.b64encode(png(text)).decode("ascii")
