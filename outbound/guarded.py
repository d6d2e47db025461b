"""Connects to hosts that viewers or providers name, and to nothing behind the firewall.

What must stay true: a name is resolved once, and only the checked addresses are connected to;
addresses that are not public are never connected to; no redirect is followed; certificates are
verified for the name.
"""

import functools
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

import httpx2

from outbound.requests import send_request

_MAX_ADDRESSES: Final = 4
_NO_PUBLIC_V4: Final = (
    IPv4Network("100.64.0.0/10"),  # shared by the customers of a carrier
    IPv4Network("192.0.0.0/24"),
    IPv4Network("192.88.99.0/24"),
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
_NO_PUBLIC_V6: Final = (
    IPv6Network("2001::/23"),  # includes Teredo, which contains an IPv4 address
    IPv6Network("2001:db8::/32"),
    IPv6Network("2002::/16"),  # 6to4, which contains one too
    IPv6Network("3fff::/20"),
)
_TRANSLATED_V4: Final = IPv6Network("64:ff9b::/96")
"""The prefix by which networks without IPv4 express IPv4 addresses."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Finds the addresses of a name, as it is sent, and a port."""


class NoAddress(Exception):
    """The host's name has no address, at least at the moment."""


class ForbiddenHost(Exception):
    """The host's name is not valid, or has an address that is not allowed."""


@functools.cache
def trusted_authorities() -> ssl.SSLContext:
    """The certificate authorities that are accepted. Reading them takes time, and all clients share
    them.
    """
    return httpx2.create_ssl_context()


async def find_addresses(url: httpx2.URL, *, loopback: bool, resolve: Resolve) -> Sequence[str]:
    """The addresses of the URL's host, all of them allowed: public, or `loopback` only.

    Raise ForbiddenHost, NoAddress, or OSError as the resolver does.
    """
    try:
        found = await resolve(
            url.raw_host.decode(), url.port or (443 if url.scheme == "https" else 80)
        )
    except UnicodeError as error:
        raise ForbiddenHost("its host cannot be a name") from error
    addresses = [ip_address(address.partition("%")[0]) for address in found[:_MAX_ADDRESSES]]
    if not addresses:
        raise NoAddress("its host has no address")
    for address in addresses:
        if not (address.is_loopback if loopback else is_public(address)):
            raise ForbiddenHost("it leads to an address that is not public")
    return [str(address) for address in addresses]


async def send(
    client: httpx2.AsyncClient,
    method: str,
    url: httpx2.URL,
    *,
    addresses: Sequence[str],
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> httpx2.Response:
    """The head of the response from the first of these addresses that can be reached.

    The client must not reuse connections: they are made to addresses, and one that is kept for a
    host must not serve another.
    """
    for address in addresses:
        request = client.build_request(
            method,
            url.copy_with(host=address),
            headers={**(headers or {}), "host": url.netloc.decode()},
            content=content,
            extensions={"sni_hostname": url.raw_host.decode()},
        )
        try:
            return await send_request(client, request)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            broken = error
    raise broken


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is public: not private, local or reserved, and not another address in
    disguise.

    The standard library's own answer has changed between versions of Python, so it is hardly used.
    """
    if isinstance(address, IPv6Address):
        wrapped = address.ipv4_mapped
        if wrapped is None and address in _TRANSLATED_V4:
            wrapped = IPv4Address(int(address) & 0xFFFF_FFFF)
        if wrapped is not None:
            return is_public(wrapped)
        return address in _PUBLIC_V6 and not any(address in network for network in _NO_PUBLIC_V6)
    return not (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or any(address in network for network in _NO_PUBLIC_V4)
    )


def is_loopback_name(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
