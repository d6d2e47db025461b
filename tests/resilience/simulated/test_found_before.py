"""Bugs found by histories, each as the shortest history that shows it."""

import pytest

from domain.errors import GenerationErrorCode, Overloaded
from domain.outputs import OutputStatus
from domain.turns import RetryOutput
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.claims import MongoClaimRepository
from storage.mongo.database import Database
from tests.resilience.simulated.faults import Fault
from tests.resilience.simulated.nodes import Node
from tests.resilience.simulated.scenes import ANA, a_node, do, start, stored, until, wait
from tests.resilience.simulated.vendor import Fate
from tests.storage.builders import LONG, a_claim, a_conversation

A_RUN_SECONDS = 10.0
"""More than any delivery of the vendor takes."""


def test_an_output_is_retried_while_its_cancelled_run_waits_at_the_vendor() -> None:
    """Its process knew runs by their output only, and had the second wait for the first one's end:
    until the deadline of a model that was cancelled because it hangs.
    """
    with a_node() as node:
        site = node.site
        site.vendor.fates.append(Fate.SILENCE)
        output = start(node)
        until(site, lambda: site.vendor.bills.total() == 1)
        do(node, node.outputs.cancel(ANA, output.id))

        do(node, node.outputs.retry(ANA, RetryOutput(output.id)))
        wait(site, A_RUN_SECONDS)

        assert stored(site, output).status is OutputStatus.COMPLETED


def test_a_delivery_committed_after_its_worker_was_stopped_keeps_its_images() -> None:
    """The worker emptied its list of pictures, which the landing under way had not read yet."""
    with a_node(focus=("land", Fault.SLOW)) as node:
        output = start(node)
        until(node.site, lambda: node.site.injector.faults > 0)

        node.stop()
        until(node.site, lambda: not stored(node.site, output).unfinished)

        assert len(stored(node.site, output).images) == 1


def test_bytes_are_kept_while_writers_and_readers_disagree_about_the_end_of_an_output() -> None:
    """A landing was not acknowledged, since a majority did not have it yet. Written again, it
    matched nothing; its record was not to be seen; so its bytes were deleted. Then it was there.
    """
    with a_node() as node:
        output = start(node)
        until(node.site, lambda: bool(node.site.bucket.kept))

        node.site.fall_behind(5.0)
        wait(node.site, A_RUN_SECONDS)

        (image,) = stored(node.site, output).images
        assert set(image.keys) <= set(node.site.bucket.kept)


def test_an_overdue_output_that_was_being_submitted_has_an_unknown_outcome() -> None:
    """Its process was killed, and no other one runs outputs: it ended as timed out, although the
    vendor had accepted it.
    """
    with a_node() as node:
        site = node.site
        site.vendor.fates.append(Fate.DIES_MEANWHILE)
        output = start(node)
        until(site, lambda: site.vendor.bills.total() == 1)
        Node(site, "api", answers=True, runs=False)

        until(site, lambda: not stored(site, output).unfinished)

        error = stored(site, output).error
        assert error is not None
        assert error.code is GenerationErrorCode.OUTCOME_UNKNOWN


async def test_an_account_that_readers_do_not_see_yet_is_no_internal_error(
    database: Database,
) -> None:
    """Two of a viewer's first requests came together: one had just made it, and the other broke."""
    await database.ledger.insert_one({"_id": f"{ANA.id} start GRANT", "ownerId": ANA.id})

    with pytest.raises(Overloaded):
        await MongoAccountRepository(database).open(ANA.id, starting_credits=1)


async def test_a_renewal_after_the_end_of_its_lease_has_no_effect(
    database: Database,
) -> None:
    """One was under way when a worker put its output off: for a whole lease nobody could take it
    up, in place of a second.
    """
    claims = MongoClaimRepository(database)
    _, turn = await a_conversation(database)
    claim = await a_claim(database, turn.outputs[0].id)

    await claims.give_back(claim)

    assert not await claims.renew(claim, lease=LONG)
    assert await claims.find_waiting(claim.parent.owner_id, claim.output.id)
