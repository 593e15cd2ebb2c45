"""Connections of callers to the API."""

from __future__ import annotations

import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.acceptance, pytest.mark.xdist_group("shared-gateway")]

CLIENTS_KEEP_THEIRS = 5.0
"""Seconds; the default of httpx, and of uvicorn if nobody tells it more."""


def test_a_connection_that_rested_takes_another_request(gateway: Gateway) -> None:
    # http.client opens no other by itself when the server has closed this one.
    connection = HTTPConnection(urlsplit(gateway.url).netloc, timeout=30)
    for wait in (CLIENTS_KEEP_THEIRS + 1, 0):
        connection.request("GET", "/health")
        answer = connection.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        time.sleep(wait)
    connection.close()
