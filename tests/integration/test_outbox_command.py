"""`wahub outbox …` as a person runs it: on a store that nobody uses, and beside a running gateway."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import (
    KEY,
    Gateway,
    Run,
    command,
    filled,
    gateway_beside,
    in_store,
    lines,
    started,
    without,
)

from wahub.cli import idempotency_file
from wahub.cli.gateway import CommandError
from wahub.domain.ids import ChatId, InstanceId, QueueId
from wahub.domain.instance import Config, State
from wahub.domain.message import Text
from wahub.domain.outbox import ItemState
from wahub.ports.store import Tx
from wahub.services import instance, outbox
from wahub.services.outbox import QueueLimits, SendRequest

PHONE = "201224885551"
SECRET_TEXT = "the secret recipe"
WAITING, LOST = QueueId("a" * 32), QueueId("b" * 32)


def wahub(directory: Path, *arguments: str, run: Run = command, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `wahub outbox …`."""
    return run(directory, "outbox", *arguments, **environment)


def fill(tx: Tx) -> None:
    """Two instances; one has an item that waits and one whose fate is unknown."""
    now = time.time()
    for name in ("shop", "WASP-other.example"):
        made = instance.create(tx, Config(name, "https://hooks.example.com/"), now)
        seen = dataclasses.replace(made.observed, state=State.READY, phone="4915112345678")
        tx.instances.save(dataclasses.replace(made, observed=seen))
    for at, queue_id in enumerate((WAITING, LOST)):
        chat = ChatId.parse(PHONE + str(at))
        asked = SendRequest(InstanceId("shop"), chat, Text(SECRET_TEXT), queue_id, bytes([at] * 16))
        outbox.enqueue(tx, asked, now + at / 100, QueueLimits())
    lost = tx.outbox.get(InstanceId("shop"), LOST)
    assert lost is not None
    tx.outbox.save(dataclasses.replace(lost, state=ItemState.UNKNOWN, on_wire=True, settled_at=now))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a filled store in `wahub-data`, to copy."""
    return filled(tmp_path_factory.mktemp("filled"), fill)


@pytest.fixture
def store(tmp_path: Path, model: Path) -> Path:
    """A directory with a filled store in `wahub-data`."""
    shutil.copytree(model, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def gateway(store: Path) -> Iterator[Gateway]:
    with gateway_beside(store, announced=False) as running:
        yield running


def no_secrets(said: subprocess.CompletedProcess[str]) -> None:
    without(said, SECRET_TEXT, PHONE)


# --- on a store that nobody uses --------------------------------------------------------------------------------------


def test_list_and_show(store: Path) -> None:
    listed = wahub(store, "list", "--json", run=started)
    assert [item["queueId"] for item in lines(listed)] == [LOST, WAITING]
    assert {name: lines(listed)[1][name] for name in ("id", "instanceId", "state", "chat", "type")} == {
        "id": WAITING,
        "instanceId": "shop",
        "state": "queued",
        "chat": "***5510",
        "type": "message",
    }
    assert lines(listed)[1]["messageId"].startswith("3EB0")
    table = wahub(store, "list", "--instance", "shop", "--state", "unknown")
    head, row = table.stdout.splitlines()
    assert (head.split()[0], row.split()[:2], "fate_unknown" in row) == ("queueId", [LOST, "shop"], True)
    shown = wahub(store, "show", WAITING)
    assert "queued" in shown.stdout and "accepted" in shown.stdout
    (whole,) = lines(wahub(store, "show", WAITING, "--json"))
    assert [moment["event"] for moment in whole["timeline"]] == ["accepted"]
    for said in (listed, table, shown):
        no_secrets(said)


def test_cancel_retry_and_resolve(store: Path) -> None:
    (cancelled,) = lines(wahub(store, "cancel", WAITING, "--json"))
    (again,) = lines(wahub(store, "retry", WAITING, "--json", "--instance", "shop"))
    (failed,) = lines(wahub(store, "resolve", LOST, "--as", "failed", "--json"))
    assert (cancelled["state"], again["state"], failed["state"]) == ("cancelled", "queued", "failed")
    assert again["messageId"] == cancelled["messageId"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["show", "c" * 32], 1, f"no instance has a request {'c' * 32}"),
        (["cancel", LOST], 1, "only an item that never was on the wire"),
        (["resolve", WAITING, "--as", "sent"], 1, "only an item in state unknown"),
        (["resolve", LOST], 2, "--as"),
        (["resolve", LOST, "--as", "gone"], 2, "--as"),
        (["list", "--instance", "none"], 1, "Instance none not found"),
        (["list", "--data-dir", "elsewhere"], 1, "there is no store at"),
        (["list", "--url", "elsewhere"], 2, "WAHUB_URL"),
        (["list", "--url", "http://127.0.0.1:9"], 1, "no gateway answers at http://127.0.0.1:9"),
    ],
)
def test_what_cannot_be_done_is_explained(store: Path, arguments: list[str], code: int, text: str) -> None:
    said = wahub(store, *arguments)
    assert (said.returncode, said.stdout) == (code, "")
    assert text in said.stderr and "Traceback" not in said.stderr
    assert not (store / "elsewhere").exists()


# --- beside a running gateway -----------------------------------------------------------------------------------------


def test_beside_a_gateway_the_commands_ask_it(store: Path, gateway: Gateway) -> None:
    gateway.announce()
    listed = wahub(store, "list", "--json", run=started, API_KEY=KEY)
    assert [item["queueId"] for item in lines(listed)] == [LOST, WAITING]
    (resolved,) = lines(wahub(store, "resolve", LOST, "--as", "sent", "--json", API_KEY=KEY))
    (cancelled,) = lines(wahub(store, "cancel", WAITING, "--url", gateway.url, "--json", API_KEY=KEY))
    assert (resolved["state"], cancelled["state"]) == ("sent", "cancelled")
    keyless = wahub(store, "list")
    wrong = wahub(store, "list", API_KEY="wrong")
    assert (keyless.returncode, wrong.returncode) == (1, 1)
    assert "set API_KEY" in keyless.stderr and "set API_KEY" in wrong.stderr
    no_secrets(listed)


def test_without_its_note_the_gateway_is_looked_for_where_the_settings_say(store: Path, gateway: Gateway) -> None:
    port = gateway.url.rpartition(":")[2]
    listed = wahub(store, "list", "--json", "--limit", "1", API_KEY=KEY, PORT=port)
    assert [item["queueId"] for item in lines(listed)] == [LOST]


# --- moving over ------------------------------------------------------------------------------------------------------


NOW_MS = 1_700_000_000_000


def record(key: str, status: str = "SENT", name: str = "shop", now: int = NOW_MS, **more: Any) -> dict[str, Any]:
    empty = {"queueItemId": None, "sentAt": None, "providerMessageId": None, "error": None}
    known = {"idempotencyKey": key, "instanceName": name, "status": status, "createdAt": now, "updatedAt": now}
    return {**known, **empty, **more}


def test_import(store: Path) -> None:
    fresh = functools.partial(record, now=round(time.time() * 1000))
    name = "WASP-other.example"
    records = [
        fresh("k", queueItemId="d" * 32, providerMessageId=f"true_{PHONE}@c.us_3EB0FF"),
        fresh("iso", name=name, sentAt="2999-01-01T00:00:00.000Z", queueItemId="f" * 32),
        fresh(f"message:{name}:0123456789abcdef:v1", name=name),
        fresh("queued", "QUEUED", queueItemId="f" * 32),
        fresh("failed", "FAILED"),
        fresh("skipped", "SKIPPED"),
        fresh("elsewhere", name="nobody"),
        fresh("elsewhere too", name="nobody"),
        fresh("too old", sentAt=1_500_000_000_000),
    ]
    file = store / ".wwebjs_idempotency.json"
    file.write_text(json.dumps(records))

    first = wahub(store, "import-idempotency", str(file), "--json", run=started)
    (again,) = lines(wahub(store, "import-idempotency", str(file), "--json"))
    sent = wahub(store, "import-idempotency", str(file), "--queued", "sent", "--instance", "shop")

    assert lines(first) == [
        {
            "event": "imported",
            "imported": 3,
            "ignored": 1,
            "queued": 1,
            "neverSent": 2,
            "otherInstances": 0,
            "unknownInstances": {"nobody": 2},
        }
    ]
    assert "'nobody'" in first.stderr and "--queued sent" in first.stderr
    assert (again["imported"], again["ignored"]) == (0, 4)
    assert sent.stdout.startswith("1 keys imported, 2 known already or too old\n")
    assert "4 of other instances" in sent.stdout

    def replays(tx: Tx) -> list[bool]:
        found = []
        for key, owner in (("k", "shop"), ("queued", "shop"), ("iso", "WASP-other_example"), ("failed", "shop")):
            asked = SendRequest(
                InstanceId(owner), ChatId.parse(PHONE), Text("other words"), QueueId("e" * 32), bytes([9] * 16), key
            )
            found.append(outbox.enqueue(tx, asked, time.time(), QueueLimits()).replayed)
        return found

    assert in_store(store, replays) == [True, True, True, False]
    shown = wahub(store, "show", "d" * 32)
    assert "3EB0FF" in shown.stdout
    no_secrets(shown)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is not valid JSON"),
        (b"[{", "is not valid JSON"),
        (b"\xff\xfe\x00", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"k": {}}', "must hold a JSON array"),
        (b"[[]]", "record 1 must be an object"),
        (json.dumps([record("good"), record("k", "LOST")]).encode(), "record 2: status must be one of"),
        (json.dumps([record("good"), record("")]).encode(), "record 2: idempotencyKey is missing"),
        (json.dumps([record("good"), record("k", name="")]).encode(), "record 2: instanceName is missing"),
        (json.dumps([record("good"), record("k", sentAt="soon")]).encode(), "record 2: sentAt must be epoch"),
        (json.dumps([record("good"), record("k\0")]).encode(), "record 2: idempotencyKey must be a string"),
        (json.dumps([record("good"), record("\ud800")]).encode(), "record 2: idempotencyKey must be a string"),
    ],
    # The contents hold the time of day and megabytes of brackets: no names for tests.
    ids=["empty", "cut", "binary", "deep", "object", "no-record", "status", "key", "name", "time", "nul", "surrogate"],
)
def test_a_file_that_is_wrong_is_refused_as_a_whole(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    with pytest.raises(CommandError) as refused:
        idempotency_file.read(file)
    assert str(refused.value).startswith(str(file)) and text in str(refused.value)


def test_a_wrong_or_missing_file_changes_nothing(store: Path) -> None:
    file = store / "keys.json"
    file.write_text(json.dumps([record("good"), record("k", "LOST")]))
    wrong = wahub(store, "import-idempotency", str(file))
    missing = wahub(store, "import-idempotency", "none.json")
    assert (wrong.returncode, wrong.stdout, "record 2: status" in wrong.stderr) == (1, "", True)
    assert (missing.returncode, "none.json cannot be read" in missing.stderr) == (1, True)
    assert "Traceback" not in wrong.stderr + missing.stderr
    assert in_store(store, lambda tx: tx.keys.get(InstanceId("shop"), "good")) is None
