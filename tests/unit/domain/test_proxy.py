"""Which proxies are taken, and that nothing secret of one is ever shown."""

from __future__ import annotations

import pytest

from wahub.domain.errors import InvalidFieldError
from wahub.domain.proxy import check_proxy, mask_proxy

SECRET = "geheim-7c1f"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("HTTPS://proxy.example.com:443/", "HTTPS://proxy.example.com:443"),
        (f"socks5://me:{SECRET}@127.0.0.1:1080", "socks5://***@127.0.0.1:1080"),
        (f"socks5://me:a%40{SECRET}%2F@[::1]:1080", "socks5://***@[::1]:1080"),
        ("http://me@10.0.0.7:8080", "http://***@10.0.0.7:8080"),
        ("http://@10.0.0.7:8080", "http://***@10.0.0.7:8080"),
    ],
)
def test_a_proxy_is_taken_and_shown_without_its_user(url: str, shown: str) -> None:
    check_proxy(url)
    assert mask_proxy(url) == shown


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("proxy.example.com:3128", "proxy must start with"),
        (f"ftp://me:{SECRET}@host:21", "proxy must start with"),
        (f"socks4://me:{SECRET}@host:1080", "proxy must start with"),
        (f"http://me:{SECRET}@host", "proxy needs a host and a port"),
        (f"http://me:{SECRET}@:80", "proxy needs a host and a port"),
        (f"http://me:{SECRET}@host:0", "proxy needs a host and a port"),
        (f"http://me:{SECRET}@host:x", "proxy is not a valid URL"),
        (f"http://me:{SECRET}@host:99999", "proxy is not a valid URL"),
        (f"http://me:{SECRET}@[::1:80", "proxy is not a valid URL"),
        (f"http://me:{SECRET}/@host:80", "proxy is not a valid URL"),
        (f"http://me:1/{SECRET}@host:80", "proxy must end with its port"),
        (f"http://host:80/{SECRET}", "proxy must end with its port"),
        (f"http://host:80?{SECRET}", "proxy must end with its port"),
        ("http://host:80#", "proxy must end with its port"),
        (f"http://me:{SECRET}@more@host:80", "proxy has a user or a password that cannot be read"),
        (f"http://me:{SECRET}:more@host:80", "proxy has a user or a password that cannot be read"),
        (f"http://me:{SECRET}@ho st:80", "proxy must contain printable"),
        (f"http://me:{SECRET}\t@host:80", "proxy must contain printable"),
        (f"http://me:{SECRET}@host\\@other:80", "proxy must contain printable"),
        (f"http://me:{SECRET}@hóst:80", "proxy must contain printable"),
        (f"http://me:{SECRET}@a..b:80", "proxy has a host name that cannot be read"),
        (f"http://me:{SECRET}@169.254.169.254:80", "proxy points to a link-local address"),
        (f"socks5://me:{SECRET}@2852039166:80", "proxy points to a link-local address"),
        (f"socks5://me:{SECRET}@0xA9FEA9FE:80", "proxy points to a link-local address"),
        (f"https://me:{SECRET}@[::ffff:169.254.169.254]:80", "proxy points to a link-local address"),
        (f"https://me:{SECRET}@[fd00:ec2::254]:80", "proxy points to a cloud metadata address"),
        (f"http://me:{SECRET}@metadata.google.internal:80", "proxy points to a cloud metadata service"),
        (f"http://me:{SECRET}@%31%36%39.254.169.254:80", "proxy points to a link-local address"),
        ("", "proxy must start with"),
    ],
)
def test_what_is_refused_is_told_without_repeating_it(url: str, text: str) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        check_proxy(url)
    said = str(refused.value)
    assert said.startswith(text)
    assert SECRET not in said
    assert "receiver" not in said


@pytest.mark.parametrize("stored", ["", None])
def test_no_proxy_is_shown_as_none(stored: str | None) -> None:
    assert mask_proxy(stored) is None


@pytest.mark.parametrize("stored", [f"me:{SECRET}@host:1", f"http://a:{SECRET}@b:{SECRET}@host:1", f"x://{SECRET}@h"])
def test_whatever_is_stored_its_user_is_not_shown(stored: str) -> None:
    assert SECRET not in str(mask_proxy(stored))
