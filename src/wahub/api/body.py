"""Reading a request's body: JSON or a form, always an object; and taking typed fields out of it.

Rules for fields: a missing one and one that is null are the same; nothing is converted, except in forms, where all
values are text (there `true` and `false` are booleans, and one value may stand for a list). Whatever is wrong gives
a 400 that names the field. NUL characters are refused because the store cannot hold them, lone surrogates because they
are no text.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import ClientDisconnect, Request

from wahub.api.problems import BodyTooLargeError, InvalidBodyError, UnsupportedBodyError
from wahub.domain.errors import InvalidFieldError

_decode = msgspec.json.Decoder().decode

_FORM = "application/x-www-form-urlencoded"
_FORM_KEY = re.compile(r"(?P<name>[^\[\]]+)(?P<path>(?:\[[^\[\]]*\])*)")
_FORM_STEP = re.compile(r"\[([^\[\]]*)\]")
_MAX_FORM_FIELDS = 1_000
_MAX_FORM_DEPTH = 4
_MOST = 2.0**53
"""Beyond it JavaScript rounds, so a larger number is a mistake."""


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of the body. `prefix` is how its fields are named in errors (`webhook.`)."""

    values: dict[str, Any]
    form: bool = False
    prefix: str = ""

    @property
    def empty(self) -> bool:
        return not self.values

    def text(self, name: str, limit: int) -> str | None:
        """A string of at most `limit` characters; None if it is not there."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._wrong(name, "must be a string")
        if len(value) > limit:
            raise self._wrong(name, f"is too long: at most {limit} characters")
        if "\0" in value:
            raise self._wrong(name, "must not contain the NUL character")
        return value

    def identifier(self, name: str, limit: int) -> str | None:
        """A string that is not empty, or a whole number as its digits; None if it is not there."""
        value = self.values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**64:
            return str(value)
        found = self.text(name, limit)
        if found == "":
            raise self._wrong(name, "must not be empty: leave it out or give it a value")
        return found

    def boolean(self, name: str) -> bool | None:
        """True or false; None if it is not there."""
        value = self.values.get(name)
        if self.form and value in ("true", "false"):
            return bool(value == "true")
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(name, "must be true or false")

    def flag(self, name: str) -> bool | None:
        """True or false, also as 1 or 0, and as text (query strings know nothing else); None if it is not there."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool | int | str) and str(value).lower() in ("true", "1"):
            return True
        if isinstance(value, bool | int | str) and str(value).lower() in ("false", "0"):
            return False
        raise self._wrong(name, "must be 1 or 0")

    def number(self, name: str, what: str) -> float | None:
        """A finite number; None if it is not there. `what` is told to callers who sent something else."""
        value = self.values.get(name)
        if value is None:
            return None
        if self.form and isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                raise self._wrong(name, f"must be {what}") from None
        if isinstance(value, bool) or not isinstance(value, int | float) or not -_MOST <= value <= _MOST:
            raise self._wrong(name, f"must be {what}")
        return float(value)

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """One of a few words; None if it is not there."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or value not in choices:
            raise self._wrong(name, f"must be {' or '.join(choices)}")
        return value

    def objects(self, name: str, most: int) -> tuple[Fields, ...]:
        """A list of at most `most` objects; an empty one if it is not there."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong(name, "must be an array of objects")
        if len(value) > most:
            raise self._wrong(name, f"has too many items: at most {most}")
        return tuple(Fields(item, self.form, f"{self.prefix}{name}[{at}].") for at, item in enumerate(value))

    def texts(
        self, name: str, *, most: int, limit: int, choices: Collection[str] | None = None
    ) -> tuple[str, ...] | None:
        """A list of at most `most` strings, each not empty (or one of `choices`); None if it is not there."""
        value = self.values.get(name)
        if value is None:
            return None
        if self.form and isinstance(value, str):
            value = [value] if value else []
        if self.form and isinstance(value, dict):  # `events[0]=…&events[1]=…`
            value = list(value.values())
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._wrong(name, "must be an array of strings")
        if len(value) > most:
            raise self._wrong(name, f"has too many items: at most {most}")
        if choices is not None and not set(value) <= set(choices):
            raise self._wrong(name, f"may contain only {', '.join(sorted(choices))}")
        if any(not item or len(item) > limit or "\0" in item for item in value):
            raise self._wrong(name, f"must contain strings of 1 to {limit} characters")
        return tuple(value)

    def object(self, name: str, member: str = "url") -> Fields:
        """An object within; an empty one if it is not there. `member` is the field of it that errors show."""
        value = self.values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(
                name, f"must be an object such as {{{name}: {{{member}: …}}}}, so {name}.{member} is missing"
            )
        return Fields(value, self.form, f"{self.prefix}{name}.")

    def _wrong(self, name: str, text: str) -> InvalidFieldError:
        return InvalidFieldError(f"{self.prefix}{name} {text}")


async def read_fields(request: Request, max_body: int) -> Fields:
    """The body as an object; a missing body is an empty one."""
    raw = await _read(request, max_body)
    if not raw or raw.isspace():
        return Fields({})
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type.startswith("multipart/"):
        raise UnsupportedBodyError("multipart/form-data")
    # `curl -d '{…}'` calls JSON a form; no field of a form begins with a brace.
    if content_type == _FORM and not raw.lstrip().startswith(b"{"):
        return Fields(_parse_form(raw), form=True)
    return Fields(_parse_json(raw))


async def _read(request: Request, max_body: int) -> bytes:
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > max_body:
        raise BodyTooLargeError(max_body)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_body:
            raise BodyTooLargeError(max_body)
        chunks.append(chunk)
        if not message.get("more_body"):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _parse_json(raw: bytes) -> dict[str, Any]:
    try:
        found = _decode(raw)
    except RecursionError:
        raise InvalidBodyError("Body is nested too deeply") from None
    except ValueError:  # msgspec's own errors are ValueErrors too
        raise InvalidBodyError("Body is not valid JSON") from None
    if not isinstance(found, dict):
        raise InvalidBodyError("Body must be a JSON object")
    return found


def _parse_form(raw: bytes) -> dict[str, Any]:
    """A form, with brackets for what is nested: `webhook[url]=…&webhook[events][]=…`."""
    try:
        pairs = parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_MAX_FORM_FIELDS)
    except ValueError:
        raise InvalidBodyError(f"Body is not a valid form of at most {_MAX_FORM_FIELDS} fields") from None
    found: dict[str, Any] = {}
    for key, value in pairs:
        match = _FORM_KEY.fullmatch(key)
        steps = [match["name"], *_FORM_STEP.findall(match["path"])] if match else [key]
        if len(steps) > _MAX_FORM_DEPTH:
            raise InvalidBodyError("Body is nested too deeply")
        _put(found, steps, value)
    return found


def _put(into: dict[str, Any], steps: list[str], value: str) -> None:
    """Store one field of a form; the last of two wins, and what contradicts an earlier one replaces it."""
    is_list = len(steps) > 1 and steps[-1] == ""
    *parents, last = steps[:-1] if is_list else steps
    for step in parents:
        child = into.get(step)
        if not isinstance(child, dict):
            child = into[step] = {}
        into = child
    if not is_list:
        into[last] = value
    elif isinstance(into.get(last), list):
        into[last].append(value)
    else:
        into[last] = [value]
