"""Reads the metrics of a process as Prometheus does."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from tests.http import open_http
from tests.waits import PATIENCE_SECONDS


@dataclass(frozen=True)
class Scrape:
    """Every sample of one look, by its name and its labels."""

    samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float]
    text: str

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels; 0 where there is none."""
        return sum(self.shown(name, **labels))

    def shown(self, name: str, **labels: str) -> list[float]:
        """The samples of this name that have these labels."""
        wanted = labels.items()
        return [
            value for (one, has), value in self.samples.items() if one == name and wanted <= has
        ]

    def has(self, name: str) -> bool:
        return any(one == name for one, _ in self.samples)

    def labels(self) -> Iterator[tuple[str, str]]:
        """Each label with each of its values, except the limits of histograms."""
        for _, has in self.samples:
            yield from (label for label in has if label[0] != "le")


async def scrape(port: int) -> Scrape:
    async with open_http(timeout=20) as http:
        response = await http.get(f"http://127.0.0.1:{port}/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    return Scrape(
        {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        },
        response.text,
    )


async def until_seen(port: int, holds: Callable[[Scrape], bool]) -> Scrape:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            seen = await scrape(port)
            if holds(seen):
                return seen
            await asyncio.sleep(0.1)


async def status_of(port: int, path: str) -> int:
    async with open_http(timeout=20) as http:
        return (await http.get(f"http://127.0.0.1:{port}{path}")).status_code
