"""A Prometheus with our rules beside a cluster, and what it is asked."""

import json
import re
import shutil
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.cluster.programs import running, until_answered
from tests.serving import free_port

ROOT: Final = Path(__file__).parents[2]


async def start_prometheus(
    folder: Path, metrics: Mapping[str, int], stack: AsyncExitStack, *, binary: Path, hurried: bool
) -> str:
    """Scrape the ports of the processes, by their names. Return its URL."""
    copy = folder / "prometheus"
    shutil.copytree(ROOT / "deploy/prometheus", copy)
    (copy / "targets").mkdir()
    for kind in ("api", "worker"):
        found = [f"127.0.0.1:{port}" for name, port in metrics.items() if kind in name]
        (copy / f"targets/{kind}.json").write_text(json.dumps([{"targets": found}]))
    config = copy / "prometheus.yml"
    config.write_text(config.read_text().replace("15s", "1s" if hurried else "2s"))
    if hurried:
        rules = copy / "darkroom.rules.yml"
        rules.write_text(_hurried(rules.read_text()))
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [
        *(binary, f"--config.file={config}", f"--web.listen-address={address}"),
        f"--storage.tsdb.path={copy / 'data'}",
    ]
    await stack.enter_async_context(running("prometheus", command, folder, environment={}))
    await until_answered(f"http://{address}/-/ready")
    return f"http://{address}"


def _hurried(rules: str) -> str:
    """The rules with short waits, over times that are as short as scrapes allow."""
    soon = re.sub(r"for: \d+[smh]", "for: 2s", rules)
    return re.sub(r"\[\d+[mh]\]", "[10s]", soon)


def dashboard_queries(interval: str = "1m") -> list[str]:
    panels = json.loads((ROOT / "deploy/grafana/darkroom.json").read_text())["panels"]
    return [
        target["expr"].replace("$__rate_interval", interval)
        for panel in panels
        for target in panel.get("targets", ())
    ]


async def values(http: httpx2.AsyncClient, query: str) -> list[str]:
    """The values that answer a query: none, where there is no data."""
    answer: Any = (await http.get("/api/v1/query", params={"query": query})).json()
    return [str(sample["value"][1]) for sample in answer["data"]["result"]]


async def firing_alerts(http: httpx2.AsyncClient) -> set[str]:
    answer: Any = (await http.get("/api/v1/alerts")).json()
    return {
        alert["labels"]["alertname"]
        for alert in answer["data"]["alerts"]
        if alert["state"] == "firing"
    }
