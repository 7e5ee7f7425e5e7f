"""Who reaches an address, and what a browser calls it."""

from __future__ import annotations

import pytest

from textclf_transformer.commands.addresses import host_headers, is_loopback, means_every_address, name_in_url


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("127.1", True),
        ("0:0:0:0:0:0:0:1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("Localhost", True),
        ("192.168.1.5", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_what_only_this_machine_reaches(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


@pytest.mark.parametrize(
    ("host", "everywhere"),
    [
        ("", True),
        ("0", True),
        ("0.0.0.0", True),
        ("::", True),
        ("0:0:0:0:0:0:0:0", True),
        ("::ffff:0.0.0.0", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
    ],
)
def test_what_means_every_address(host: str, everywhere: bool) -> None:
    assert means_every_address(host) is everywhere


@pytest.mark.parametrize(
    ("host", "name"),
    [("127.1", "127.0.0.1"), ("0:0:0:0:0:0:0:1", "[::1]"), ("::ffff:10.0.0.5", "10.0.0.5"), ("Box", "Box")],
)
def test_what_a_url_calls_an_address(host: str, name: str) -> None:
    assert name_in_url(host) == name


@pytest.mark.parametrize(
    ("host", "port", "headers"),
    [
        ("Localhost", 8000, {"localhost:8000", "127.0.0.1:8000", "[::1]:8000"}),
        ("::1", 8000, {"localhost:8000", "127.0.0.1:8000", "[::1]:8000"}),
        ("127.0.0.2", 8000, {"127.0.0.2:8000"}),
        ("Example.org", 80, {"example.org:80", "example.org"}),
        ("fe80::1", 80, {"[fe80::1]:80", "[fe80::1]"}),
        ("FE80:0:0:0:0:0:0:1", 8000, {"[fe80::1]:8000"}),
        ("::ffff:10.0.0.5", 8000, {"10.0.0.5:8000"}),
        ("127.1", 8000, {"localhost:8000", "127.0.0.1:8000", "[::1]:8000"}),
        ("0:0:0:0:0:0:0:1", 8000, {"localhost:8000", "127.0.0.1:8000", "[::1]:8000"}),
    ],
)
def test_what_a_browser_may_call_the_server(host: str, port: int, headers: set[str]) -> None:
    assert host_headers(host, port) == headers
