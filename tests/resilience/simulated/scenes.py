"""Short histories written by hand: processes in which only the failures of the test happen."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from random import Random
from typing import Any

from domain.conversations import StartConversation
from domain.ids import viewer_id_of
from domain.outputs import Output
from domain.turns import TurnRequest
from domain.viewers import Viewer
from tests.resilience.simulated.faults import Fault, FaultInjector, FaultRates
from tests.resilience.simulated.nodes import Node
from tests.resilience.simulated.seeded_services import (
    logged_errors_as_violations,
    seeded_randomness,
)
from tests.resilience.simulated.site import LEASE, Site, a_site
from tests.resilience.simulated.world import World

ANA = Viewer(viewer_id_of("simulated", "ana"))
DEADLINE = timedelta(seconds=60)


@contextmanager
def a_calm_site(*, focus: tuple[str, Fault] | None = None, seed: str = "calm") -> Iterator[Site]:
    """Which call fails, if any. At the end no invariant may be violated."""
    world = World(Random(seed))
    fault_rates = FaultRates(focus=focus, focus_share=1.0)
    site = a_site(
        FaultInjector(world, fault_rates, lease_seconds=LEASE.total_seconds()), deadline=DEADLINE
    )
    with seeded_randomness(0.5), logged_errors_as_violations(world):
        try:
            yield site
        finally:
            for resident in list(site.residents):
                resident.process.kill()
    violations = [*site.invariants.violations, *world.broken]
    assert not violations, violations


@contextmanager
def a_node(*, focus: tuple[str, Fault] | None = None, seed: str = "calm") -> Iterator[Node]:
    """A process that does everything."""
    with a_calm_site(focus=focus, seed=seed) as site:
        yield Node(site, "both", answers=True, runs=True)


def until(site: Site, is_met: Callable[[], object]) -> None:
    site.injector.world.run_until(is_met)


def wait(site: Site, seconds: float) -> None:
    over_at = site.injector.world.now + seconds
    until(site, lambda: site.injector.world.now >= over_at)


def do(node: Node, work: Coroutine[Any, Any, Any]) -> Any:
    """Have a request answered."""
    task = node.process.begin(work, name="request")
    until(node.site, task.done)
    return task.result()


def start(node: Node) -> Output:
    request = TurnRequest(user_message="A boat", selected_models=("queue-a",))
    _, turn = do(node, node.conversations.start(ANA, StartConversation(request)))
    output: Output = turn.outputs[0]
    return output


def stored(site: Site, output: Output) -> Output:
    found = site.tables.parents[output.parent_id].parent.output(output.slot)
    assert found is not None
    return found
