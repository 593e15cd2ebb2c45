"""Reading the QR code with which a companion asks to be linked.

Text: `https://wa.me/settings/linked_devices#ref,noise,identity,adv[,platform]`, in older clients without the address;
the three keys are base64 of 32 bytes. Source: Baileys Socket/socket (`genPairQR`), whatsmeow pair.go (`makeQRData`).
"""

from __future__ import annotations

import binascii
import io
from base64 import b64decode

import zxingcpp
from PIL import Image, UnidentifiedImageError

from wahub.sandbox.model import PairingRequest

LINK_PREFIX = "https://wa.me/settings/linked_devices#"
MAX_PIXELS = 25_000_000
_QR_ONLY = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
_KEY_NAMES = ("noise key", "identity key", "ADV secret")


class UnreadableQrError(ValueError):
    """The text or picture is not a linking QR code; the text says what is wrong, without the code itself."""


def read_text(text: str) -> PairingRequest:
    """Take the QR's text apart."""
    parts = text.strip().removeprefix(LINK_PREFIX).split(",")
    if not 4 <= len(parts) <= 5 or not parts[0]:
        raise UnreadableQrError("not a linking QR code: expected ref,noise,identity,adv[,platform]")
    keys: list[bytes] = []
    for name, part in zip(_KEY_NAMES, parts[1:4], strict=True):
        try:
            key = b64decode(part, validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != 32:
            raise UnreadableQrError(f"not a linking QR code: the {name} is not base64 of 32 bytes")
        keys.append(key)
    return PairingRequest(parts[0], *keys)


def text_from_picture(picture: bytes) -> str:
    """The text of the one QR code in a picture (PNG or another common format)."""
    try:
        with Image.open(io.BytesIO(picture)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableQrError(f"the picture has more than {MAX_PIXELS} pixels")
            found = zxingcpp.read_barcodes(_on_white(image), formats=_QR_ONLY)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableQrError("not a readable picture") from error
    texts = [code.text for code in found if code.text]
    if len(texts) != 1:
        raise UnreadableQrError(f"expected one QR code in the picture, found {len(texts)}")
    return texts[0]


def _on_white(image: Image.Image) -> Image.Image:
    """Grey, with a white ground behind transparent parts (they would read as black)."""
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        ground.alpha_composite(image)
        image = ground
    return image.convert("L")
