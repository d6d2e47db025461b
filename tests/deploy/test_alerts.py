"""Every alert of a real Prometheus fires for its cause, and clears after it.

The rules are those that operators get, with their thresholds. Their waits are shorter, and rates
are over ten seconds.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from pymongo import AsyncMongoClient

from tests.clients import GraphQLClient
from tests.cluster.cluster import cluster
from tests.cluster.scraping import firing_alerts
from tests.deploy.causes import CAUSES, TAKEN_OVER, Deployment
from tests.deploy.test_monitoring import values_of
from tests.http import open_http
from tests.resilience.processes import DATABASE, Vendor, wait_until_answering
from tests.resilience.scale import THOROUGH, WHY_NOT
from tests.tools import need
from tests.waits import eventually

FIRES_SECONDS = 300.0
CLEARS_SECONDS = 300.0
SETTINGS = {
    "DARKROOM_STARTING_CREDITS": "10000",
    "DARKROOM_FAL_PLACES": str(2 * TAKEN_OVER),  # a viewer gets half of them
    "DARKROOM_S3_SECONDS": "3",
}
thorough = pytest.mark.skipif(not THOROUGH, reason=WHY_NOT)


@pytest.fixture(scope="module")
async def deployment(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Deployment]:
    for program in ("nats-server", "ministack", "caddy", "promtool"):
        need(program)
    folder = tmp_path_factory.mktemp("cluster")
    async with AsyncExitStack() as stack:
        vendor = Vendor(data_dir=folder, seconds_per_job=0)
        stack.push_async_callback(vendor.kill)
        await vendor.start()
        one, stores = await stack.enter_async_context(
            cluster(folder, settings={**SETTINGS, **vendor.settings}, hurried=True)
        )
        mongodb: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(stores.replica_set.uri)
        stack.push_async_callback(mongodb.close)
        client = GraphQLClient(one.apis[0].url, one.token("ana"))
        stack.push_async_callback(client.aclose)
        await wait_until_answering(client)
        yield Deployment(one, stores, mongodb[DATABASE], client)


@pytest.fixture
async def prometheus(deployment: Deployment) -> AsyncIterator[httpx2.AsyncClient]:
    assert deployment.cluster.prometheus is not None
    async with open_http(base_url=deployment.cluster.prometheus) as http:
        yield http


def test_every_alert_has_a_cause() -> None:
    assert set(CAUSES) == set(values_of("- alert"))


@thorough
@pytest.mark.timeout(900)
@pytest.mark.parametrize("alert", CAUSES)
async def test_an_alert_fires_for_its_cause_and_clears_after_it(
    alert: str, deployment: Deployment, prometheus: httpx2.AsyncClient
) -> None:
    async def fires() -> bool:
        return alert in await firing_alerts(prometheus)

    async def is_clear() -> bool:
        return not await fires()

    await eventually(is_clear, within=CLEARS_SECONDS, what=f"{alert} of a test before clears")
    async with CAUSES[alert](deployment):
        await eventually(fires, within=FIRES_SECONDS, what=f"{alert} fires", every=0.3)
    await eventually(is_clear, within=CLEARS_SECONDS, what=f"{alert} clears", every=0.3)
