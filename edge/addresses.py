"""The address of a client, by which limits count.

Behind trusted proxies, the server has already replaced the peer's address by the forwarded one.
"""

from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Final

from starlette.types import Scope

REMEMBERED: Final = 1_024
_PREFIX: Final = 64
"""Bits of an IPv6 address: a client usually has all addresses that share them."""


def address_of(scope: Scope) -> str:
    """The IPv4 address, or the network of the IPv6 address. `unknown` where there is neither."""
    client = scope.get("client")
    return _read(str(client[0]) if client else "")


@lru_cache(REMEMBERED)
def _read(host: str) -> str:
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return "unknown"
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, _PREFIX), strict=False))
