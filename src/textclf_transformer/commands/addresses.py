"""Addresses that ``textclf serve`` listens at: who reaches them, and what a browser calls them."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the address that ``host`` writes, ``::ffff:0.0.0.0`` as 0.0.0.0; ValueError for a name."""
    address = ipaddress.ip_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    with contextlib.suppress(ValueError):
        return _address(host).is_loopback
    return host.lower() == "localhost"


def means_every_address(host: str) -> bool:
    """Whether the system would listen everywhere: for ``::`` and all that it reads as 0.0.0.0 (``0``)."""
    with contextlib.suppress(ValueError):
        return _address(host).is_unspecified
    with contextlib.suppress(OSError):
        return not any(socket.inet_aton(host))
    return not host


def name_in_url(host: str) -> str:
    """Return ``host`` as it stands in a URL, an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def host_headers(host: str, port: int) -> set[str]:
    """Return what a browser may write as the Host of a request to a server that listens at ``host``.

    One of the usual names of this machine stands for all of them.
    """
    name = name_in_url(host).lower()
    names = {name, *(_LOOPBACK_NAMES if name in _LOOPBACK_NAMES else ())}
    return {f"{each}:{port}" for each in names} | (names if port == 80 else set())
