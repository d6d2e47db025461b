"""Metrics that move only with a provider, at the end of a socket, or when history is lost."""

import re
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from domain.ports.changes import FeedItem, HistoryLost
from metrics.series import Metrics
from metrics.updates import ObservedFeed
from tests.clients import connect_to
from tests.conftest import StartDarkroom
from tests.deploy.test_monitoring import declared_series
from tests.metrics.scrapes import Scrape, scrape, until_seen
from tests.metrics.test_metrics import CANCEL
from tests.operations import start, until_finished
from tests.serving import free_port
from tests.simulators.fal import KEY, FalSimulator, serving_fal

MODEL: Final = "img-nano-banana"
SLOW: Final = "A boat [fal submit=503x1 retry_after=1 seconds=600]"
QUICK: Final = "A boat [fal seconds=0]"
WITH_BAD_TOKEN: Final = '{"type":"connection_init","payload":{"authorization":"Bearer x"}}'
TESTS: Final = Path(__file__).parent


async def test_permits_and_postponed_submissions_are_counted(
    start_darkroom: StartDarkroom,
) -> None:
    port = free_port()
    async with serving_fal(FalSimulator()) as url:
        fal = {"key": SecretStr(KEY), "url": url, "total_places": 3}
        client = (await start_darkroom(metrics_port=port, fal=fal)).client()
        before = await scrape(port)
        slow = await start(client, userMessage=SLOW, selectedModels=[MODEL], options={})
        during = await until_seen(port, _runs_again)
        two = {"imagesPerModel": 2, "previews": 0}
        quick = await start(client, userMessage=QUICK, selectedModels=[MODEL], options=two)
        await until_finished(client, quick["turn"])
        await client(CANCEL, id=slow["turn"]["id"])
        await until_finished(client, slow["turn"])
        after = await until_seen(port, _nothing_runs)

    assert during("darkroom_permits", provider="fal") == 3
    assert before("darkroom_permits_held", provider="fal") == 0
    assert after("darkroom_outputs_postponed_total", provider="fal") == 1
    # An output with two images is one output, and lands once.
    assert after("darkroom_output_landing_seconds_count", provider="fal") == 1
    assert after("darkroom_output_queue_seconds_count", provider="fal") == 2
    ended = "darkroom_outputs_ended_total"
    assert after(ended, provider="fal", outcome="COMPLETED") == 1
    assert after(ended, provider="fal", outcome="CANCELLED") == 1
    runs = "darkroom_provider_run_seconds_count"
    assert after(runs, provider="fal", outcome="PROVIDER_UNAVAILABLE") == 1


async def test_closes_of_sockets_are_counted_by_their_code(start_darkroom: StartDarkroom) -> None:
    port = free_port()
    darkroom = await start_darkroom(metrics_port=port)

    for message in ("nonsense", WITH_BAD_TOKEN):
        async with connect_to(darkroom.url) as connection:
            await connection.send(message)
            await connection.wait_closed()
    async with connect_to(darkroom.url):
        pass

    closes = "darkroom_socket_closes_total"
    seen = await until_seen(port, lambda now: now(closes) == 3)
    for code in ("4400", "4403", "client"):
        assert seen(closes, code=code) == 1
    assert seen("darkroom_sockets") == 0


async def test_lost_history_is_counted() -> None:
    metrics = Metrics()

    async for _ in ObservedFeed(_LostOnce(), metrics).follow():
        pass

    assert metrics.registry.get_sample_value("darkroom_feed_losses_total") == 1


def test_every_series_is_seen_to_move_by_a_test() -> None:
    tests = "".join(path.read_text() for path in TESTS.glob("test_*.py"))

    for name in declared_series():
        assert re.search(rf'"{name}(_count)?"', tests), name


class _LostOnce:
    async def follow(self) -> AsyncGenerator[Sequence[FeedItem] | None, None]:
        yield None
        yield [HistoryLost()]


def _runs_again(seen: Scrape) -> bool:
    return seen("darkroom_outputs_postponed_total") == seen("darkroom_permits_held") == 1


def _nothing_runs(seen: Scrape) -> bool:
    names = ("darkroom_slots_taken", "darkroom_permits_held", "darkroom_outputs")
    return not any(seen(name) for name in names)
