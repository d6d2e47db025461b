"""Servers that tests start find their ports free."""

import socket
from collections.abc import Iterator

import pytest

from tests.ports import BLOCK_PORTS, END_PORT, FIRST_PORT, HOST, Ports
from tests.serving import free_port


@pytest.fixture
def ports() -> Iterator[Ports]:
    made = Ports()
    yield made
    made.close()


@pytest.fixture
def others() -> Iterator[Ports]:
    made = Ports()
    yield made
    made.close()


def test_no_port_is_one_that_the_system_chooses(ports: Ports) -> None:
    chosen = {ports.free() for _ in range(20)} | {free_port()}

    assert all(FIRST_PORT <= port < END_PORT for port in chosen)


def test_two_processes_never_get_the_same_port(ports: Ports, others: Ports) -> None:
    assert not {ports.free() for _ in range(100)} & {others.free() for _ in range(100)}


def test_a_port_in_use_is_not_given(ports: Ports) -> None:
    with socket.socket() as server:
        used = ports.free()
        server.bind((HOST, used))
        server.listen()

        assert used not in {ports.free() for _ in range(BLOCK_PORTS)}


def test_a_port_is_given_again_only_after_all_others(ports: Ports) -> None:
    given = [ports.free() for _ in range(BLOCK_PORTS // 2)]

    assert len(set(given)) == len(given)
