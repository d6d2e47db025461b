"""Binds sockets before anything slow begins, so that a wrong address is reported at once."""

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from runtime.lifecycle import CannotStart
from settings import Settings, variable_of

_UNACKNOWLEDGED_MILLISECONDS: Final = 20_000


@contextmanager
def listen(host: str, port: int, *fields: str) -> Iterator[socket.socket]:
    """Open a socket on this address. Raise CannotStart with the variables of these fields."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotStart(explain_bind_error(error, host, port, *fields)) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":
            # Otherwise a client that has stopped reading would never be disconnected.
            listener.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MILLISECONDS
            )
        try:
            listener.bind(address)
        except OSError as error:
            raise CannotStart(explain_bind_error(error, host, port, *fields)) from error
        yield listener


@contextmanager
def listen_for_operators(settings: Settings) -> Iterator[socket.socket | None]:
    """Open a socket on the operators' address, if one is configured."""
    if settings.metrics_port is None:
        yield None
        return
    fields = "metrics_host", "metrics_port"
    with listen(settings.metrics_host, settings.metrics_port, *fields) as listener:
        yield listener


def explain_bind_error(error: OSError, host: str, port: int, *fields: str) -> str:
    host_variable, port_variable = (variable_of(Settings, field) for field in fields)
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use: set {port_variable} to another one."
    reason = error.strerror or type(error).__name__
    return f"{host_variable}={host} and {port_variable}={port} cannot be used to listen: {reason}."
