"""Addresses that ``textclf serve`` listens at: who reaches them, and what a browser calls them."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that ``host`` means, None for a name.

    It is read as the system reads it: 127.1 is 127.0.0.1, and so is ::ffff:127.0.0.1, which IPv4 reaches.
    """
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return getattr(address, "ipv4_mapped", None) or address
    with contextlib.suppress(OSError):
        return ipaddress.IPv4Address(socket.inet_aton(host))
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def means_every_address(host: str) -> bool:
    """Whether the system would listen everywhere: for ``::``, 0.0.0.0 in all its writings, no host."""
    address = _address(host)
    return not host if address is None else address.is_unspecified


def name_in_url(host: str) -> str:
    """Return ``host`` as a browser writes it in a URL: an address in its shortest form, IPv6 in brackets."""
    address = _address(host)
    if address is None:
        return host
    return str(address) if address.version == 4 else f"[{address}]"


def host_headers(host: str, port: int) -> set[str]:
    """Return what a browser may write as the Host of a request to a server that listens at ``host``.

    One of the usual names of this machine stands for all of them.
    """
    name = name_in_url(host).lower()
    names = {name, *(_LOOPBACK_NAMES if name in _LOOPBACK_NAMES else ())}
    return {f"{each}:{port}" for each in names} | (names if port == 80 else set())
