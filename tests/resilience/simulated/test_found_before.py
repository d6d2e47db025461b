"""What histories have found, each as the shortest one that shows it."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest

from domain.conversations import StartConversation
from domain.errors import Overloaded
from domain.ids import viewer_id_of
from domain.outputs import Output, OutputStatus
from domain.turns import RetryOutput, TurnRequest
from domain.viewers import Viewer
from storage.accounts import MongoAccountRepository
from storage.database import Database
from tests.resilience.simulated.nodes import Node
from tests.resilience.simulated.site import LEASE, a_site
from tests.resilience.simulated.sky import Fault, Sky, Weather
from tests.resilience.simulated.vendor import Fate
from tests.resilience.simulated.world import World

ANA = Viewer(viewer_id_of("simulated", "ana"))
A_RUN_SECONDS = 10.0
"""More than any that the vendor delivers at all, and a third of the deadline."""


@contextmanager
def a_node(*, focus: tuple[str, Fault] | None = None) -> Iterator[Node]:
    """A process that does everything, where nothing goes wrong but, if anything, one call."""
    world = World(Random("calm"))
    weather = Weather(focus=focus, focus_share=1.0)
    site = a_site(Sky(world, weather, lease_seconds=LEASE.total_seconds()))
    node = Node(site, "both", answers=True, runs=True)
    try:
        yield node
    finally:
        node.process.kill()
    assert [*site.invariants.objections, *world.broken] == []


def until(node: Node, over: Callable[[], bool]) -> None:
    node.site.sky.world.run_until(over)


def do(node: Node, work: Coroutine[Any, Any, Any]) -> Any:
    """Have a request answered."""
    task = node.process.begin(work, name="request")
    until(node, task.done)
    return task.result()


def start(node: Node) -> Output:
    request = TurnRequest(user_message="A boat", selected_models=("queue-a",))
    _, turn = do(node, node.conversations.start(ANA, StartConversation(request)))
    output: Output = turn.outputs[0]
    return output


def stored(node: Node, output: Output) -> Output:
    found = node.site.tables.turns[output.turn_id].turn.output(output.slot)
    assert found is not None
    return found


def test_an_output_is_tried_again_while_the_vendor_keeps_its_cancelled_run_waiting() -> None:
    """Its process knew runs by their output only, and had the second wait for the first one's end:
    until the deadline of a model that was cancelled because it hangs.
    """
    with a_node() as node:
        node.site.vendor.fates.append(Fate.SILENCE)
        output = start(node)
        until(node, lambda: node.site.vendor.bills.total() == 1)
        do(node, node.turns.cancel_output(ANA, output.id))

        do(node, node.turns.retry_output(ANA, RetryOutput(output.id)))
        until(node, lambda: not stored(node, output).unfinished)

        assert stored(node, output).status is OutputStatus.COMPLETED
        assert node.site.sky.world.now < A_RUN_SECONDS


def test_what_lands_after_its_worker_was_told_to_stop_still_has_its_pictures() -> None:
    """The worker emptied its list of pictures, which the landing under way had not read yet."""
    with a_node(focus=("land", Fault.SLOW)) as node:
        output = start(node)
        until(node, lambda: node.site.sky.faults > 0)

        node.stop()
        until(node, lambda: not stored(node, output).unfinished)

        assert len(stored(node, output).images) == 1


def test_bytes_stay_where_writers_say_that_an_output_is_over_and_readers_do_not_see_yet() -> None:
    """A landing was not acknowledged, since a majority did not have it yet. Told again, it matched
    nothing; its record was not to be seen; so its bytes were deleted. Then it was there.
    """
    with a_node() as node:
        output = start(node)
        until(node, lambda: bool(node.site.bucket.kept))

        node.site.fall_behind(5.0)
        until(node, lambda: node.site.sky.world.now > A_RUN_SECONDS)

        (image,) = stored(node, output).images
        assert set(image.keys) <= set(node.site.bucket.kept)


async def test_an_account_that_readers_do_not_see_yet_is_no_fault_of_ours(
    database: Database,
) -> None:
    """Two of a viewer's first requests came together: one had just made it, and the other broke."""
    await database.ledger.insert_one({"_id": f"{ANA.id} start GRANT", "ownerId": ANA.id})

    with pytest.raises(Overloaded):
        await MongoAccountRepository(database).open(ANA.id, starting_credits=1)
