"""Link-local and metadata addresses are refused in every spelling (contract 0.9)."""

from __future__ import annotations

import socket

import pytest

from wahub.domain.errors import InvalidFieldError
from wahub.domain.target import check_url, mask_url, read_address, refusal

FORBIDDEN = [
    "169.254.169.254",
    "169.254.169.254.",
    "2852039166",
    "0xA9FEA9FE",
    "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "025177524776",
    "169.254.43518",
    "169.16689662",
    "0xa9.254.0251.254",
    "169.254.0.1",
    "[::ffff:169.254.169.254]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:a9fe:a9fe]",
    "[::169.254.169.254]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
    "[fe80::1]",
    "[fe80::1%25eth0]",
    "[febf::1]",
    "[fd00:ec2::254]",
    "[fd20:ce::254]",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "metadata.google.internal",
    "METADATA.Google.Internal.",
    "user@169.254.169.254",
    "user:pass@169.254.169.254",
    "example.com@169.254.169.254",
    "a@b@169.254.169.254",
    "169.254.169.254:8080",
    "%31%36%39.254.169.254",
    "169%2e254%2e169%2e254",
    "\uff11\uff16\uff19.254.169.254",
    "169。254。169。254",
    "①⑥⑨.254.169.254",
    "224.0.0.1",
]


@pytest.mark.parametrize("host", FORBIDDEN)
@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
def test_forbidden_addresses(host: str, scheme: str) -> None:
    with pytest.raises(InvalidFieldError, match=r"webhook\.url"):
        check_url(f"{scheme}://{host}/latest/meta-data")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:3001/hook",
        "http://localhost:3001/hook",
        "http://[::1]:3001/",
        "http://10.0.0.5/x",
        "http://192.168.1.1/x",
        "http://receiver:8000/webhooks/waapi",
        "http://my_service.internal/x",
        "https://example.com/hook?x=http://169.254.169.254/",
        "https://example.com/@user:pass@example.com?a@b",
        "https://münchen.example/hook",
        "https://example.com",
        "https://169.254.169.254.example.com/",
        "http://169.253.1.1/",
    ],
)
def test_what_is_allowed_by_default(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "//example.com",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "http://:80/",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://example.com:port/",
        "http://exa mple.com/",
        "http://example.com/a b",
        "http://example.com\\@169.254.169.254/",
        "http://169.254.169.254\\.example.com/",
        "http://example.com/\r\nx: y",
        "http://example..com/",
        "http://[::1/",
        "http://[::zz]/",
        "http://256.256.256.256/",
        "http://1.2.3.4.5/",
        "http://99999999999/",
    ],
)
def test_what_is_no_url_of_a_receiver(url: str) -> None:
    with pytest.raises(InvalidFieldError, match=r"webhook\.url"):
        check_url(url)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "a.localhost", "10.1.2.3", "172.16.0.1", "192.168.0.1", "100.64.0.1", "0.0.0.0", "0",
     "[::1]", "[::]", "[fd12::1]", "[::ffff:10.0.0.1]", "0x7f.1", "017700000001"],
)  # fmt: skip
def test_private_addresses_when_they_are_blocked(host: str) -> None:
    check_url(f"http://{host}/")
    with pytest.raises(InvalidFieldError, match="private"):
        check_url(f"http://{host}/", block_private=True)


def test_public_addresses_when_private_ones_are_blocked() -> None:
    check_url("http://93.184.216.34/", block_private=True)
    check_url("http://[2606:2800:220:1::1]/", block_private=True)
    check_url("http://example.com/", block_private=True)


@pytest.mark.parametrize(
    "user", ["user:hunter2", "user", ":hunter2", ":", "", "user:hunter2@other", "hunter2%40", "user:hun%3Ater2"]
)
def test_a_password_is_refused_with_the_remedy_and_not_repeated(user: str) -> None:
    with pytest.raises(InvalidFieldError, match=r"^webhook\.url .*WEBHOOK_AUTH_TOKEN") as refused:
        check_url(f"https://{user}@example.com/hook")
    assert "hun" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (None, None),
        ("https://example.com/hook?x=1", "https://example.com/hook?x=1"),
        ("https://user:hunter2@example.com:8443/a@b?c=d@e", "https://***@example.com:8443/a@b?c=d@e"),
        ("http://hunter2@[::1]:1/", "http://***@[::1]:1/"),
        ("http://user:hunter2@other@example.com", "http://***@example.com"),
        ("https://example.com?to=a@b", "https://example.com?to=a@b"),
        ("https://example.com/a://b@c", "https://example.com/a://b@c"),
    ],
)
def test_a_password_that_was_stored_is_not_shown(url: str | None, shown: str | None) -> None:
    assert mask_url(url) == shown


def test_the_field_can_be_named() -> None:
    with pytest.raises(InvalidFieldError, match=r"media\.url"):
        check_url("http://169.254.169.254/", field="media.url")


@pytest.mark.parametrize(
    "text",
    ["127.1", "0177.1", "0x7f000001", "1.2.65535", "255.255.255.255", "256.1.1.1", "1.2.3.256", "4294967295",
     "4294967296", "08.1.1.1", "1.16777215", "1.16777216", "0", "00", "1.2.3.4.5", "1..2"],
)  # fmt: skip
def test_addresses_are_read_as_the_c_library_reads_them(text: str) -> None:
    try:
        expected = socket.inet_ntoa(socket.inet_aton(text))
    except OSError:
        expected = None
    found = read_address(text)
    assert (None if found is None else str(found)) == expected


@pytest.mark.parametrize("address", ["169.254.1.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.169.254", "nonsense"])
def test_refusal_of_resolved_addresses(address: str) -> None:
    assert refusal(address) is not None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "8.8.8.8", "2001:4860:4860::8888"])
def test_no_refusal(address: str) -> None:
    assert refusal(address) is None
