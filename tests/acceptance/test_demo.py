"""`wahub demo`: the round trip, its failure, and that nothing of it stays behind."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from tests.support.commands import Forked, command
from tests.support.processes import Command, alive, run_wahub
from tests.support.waiting import until

pytestmark = pytest.mark.acceptance


def test_demo_once_tells_the_whole_story(tmp_path: Path) -> None:
    # Settings of the place where it is called do not count.
    (tmp_path / ".env").write_text("SEND_SPACING_MS=nonsense\n")
    ended = run_wahub("demo", "--once", directory=tmp_path, API_KEY="not-for-the-demo", PORT="1")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.findall(r"^ +(\d)/9 ", ended.stdout, re.MULTILINE) == list("123456789")
    assert "█" in ended.stdout and "signature right" in ended.stdout
    assert "WRONG" not in ended.stdout and ended.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


def test_a_failing_demo_ends_with_1_and_shows_the_log_of_what_failed(tmp_path: Path) -> None:
    dead_registry = {"npm_config_registry": "http://127.0.0.1:9", "npm_config_fetch_retries": "0"}
    ended = command(tmp_path, "demo", "--once", WAHUB_CACHE_DIR=str(tmp_path / "empty"), **dead_registry)
    assert ended.returncode == 1
    assert "the gateway ended with exit code 4" in ended.stdout
    assert "registry was not reached" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGKILL, -9)])
def test_nothing_stays_behind(number: signal.Signals, code: int, tmp_path: Path) -> None:
    demo = Forked("demo", ["demo"], tmp_path, {"TMPDIR": str(tmp_path)})
    try:
        said = until(waiting_for(demo, "stays up"), 60, demo.out.read_text)
        urls = re.findall(r"http://127\.0\.0\.1:\d+", said)
        gateway, sandbox = urls_after("Gateway", said), urls_after("Sandbox", said)
        assert {gateway, sandbox} <= set(urls)
        assert len(re.findall(r"^ +curl ", said, re.MULTILINE)) == 3
        engines = [int(file.read_text()) for file in tmp_path.glob("wahub-demo-*/data/run/engine-*.pid")]
        assert len(engines) == 1
        demo.send_signal(number)
        assert demo.wait() == code
        for url in (gateway, sandbox):
            until(lambda url=url: not answers(url), 30, f"{url} still answers")
        until(lambda: not alive(engines[0]), 30, "the engine process stayed behind")
        if code == 0:
            assert list(tmp_path.glob("wahub-demo-*")) == [], "temporary data stayed behind"
    finally:
        demo.kill()


def waiting_for(demo: Command, text: str) -> Callable[[], str | None]:
    def look() -> str | None:
        assert demo.code is None, demo.out.read_text() + demo.log_tail()
        said = demo.out.read_text()
        return said if text in said and "One more question" in said else None

    return look


def urls_after(word: str, said: str) -> str:
    found = re.search(rf"{word} (http://127\.0\.0\.1:\d+)", said)
    assert found is not None
    return found[1]


def answers(url: str) -> bool:
    try:
        # Without certificates, which would take longer to load than the answer takes.
        httpx.get(f"{url}/health", trust_env=False, verify=False)
    except httpx.TransportError:
        return False
    return True
