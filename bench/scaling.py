"""`python -m bench.scaling`: measures all costs, compares the calculation with real processes, and
writes bench/coefficients.json, bench/accuracy.json and the tables of docs/scaling.md.

It takes about ten minutes on a machine that does nothing else. `--tables` only writes the tables
again, from what was measured before.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bench.coefficients import measure
from bench.fleet import BUSY, Comparison, Day, busiest_of, compare, play
from bench.model import Coefficients
from bench.usage import Usage

PATH: Final = Path("docs/scaling.md")
ACCURACY: Final = Path(__file__).parent / "accuracy.json"
_DAYS: Final = (
    ("10,000", Day(viewers=10_000), 1),
    ("100,000", Day(viewers=100_000), 1),
    ("1,000,000, one database", Day(), 1),
    ("1,000,000, four databases", Day(viewers=250_000, provider_slots=1_000), 4),
)
"""Viewers, the day of each database, and how many of these there are."""
_MEMORY_OF_A_PROCESS: Final = 4e9
_RECONNECTING: Final = 25_000
_CHANGES: Final = (400, 1_300)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """What the comparison has found, and how."""

    compared: Sequence[Comparison]
    measured: dict[str, str]

    def write(self) -> None:
        ACCURACY.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @staticmethod
    def read() -> "Accuracy":
        stored: dict[str, Any] = json.loads(ACCURACY.read_text())
        return Accuracy([Comparison(**one) for one in stored["compared"]], stored["measured"])


def costs_table(c: Coefficients) -> Iterator[str]:
    yield _measured(c.measured)
    yield ""
    yield "| operation | API, ms | worker, ms | database, ms | database operations |"
    yield "| --- | --- | --- | --- | --- |"
    rows: dict[str, Usage] = {
        "an output of a remote provider, from the request to its landing, without decoding": (
            c.landed
        ),
        "decoding an image of 1.6 megapixels, with three thumbnails": c.decoding,
        "a preview": c.preview,
        "an upload of 1.1 MB, decoded in its sandbox": Usage(
            api=c.upload.api, mongod=c.upload.mongod, operations=c.upload.operations
        ),
        "a conversation of three turns, over HTTP": Usage(
            api=c.query.api, mongod=c.query.mongod, operations=c.query.operations
        ),
        "a change that one subscriber follows": Usage(
            api=c.change.api, mongod=c.change.mongod, operations=c.change.operations
        ),
        "each further subscriber of it": c.delivered,
        "a change that nobody follows, for each API process": c.feed_reader,
        "an idle subscription, per second": c.subscriber,
        "an idle process, per second": Usage(
            api=c.idle_api.api,
            worker=c.idle_worker.worker,
            mongod=c.idle_api.mongod,
            operations=c.idle_api.operations,
        ),
    }
    for name, used in rows.items():
        times = (_ms(value) for value in (used.api, used.worker, used.mongod))
        yield f"| {name} | {' | '.join(times)} | {_short(used.operations)} |"


def memory_table(c: Coefficients) -> Iterator[str]:
    yield "| what | memory or storage |"
    yield "| --- | --- |"
    yield f"| an API process | {c.api_bytes / 1e6:.0f} MB |"
    yield f"| a worker | {c.worker_bytes / 1e6:.0f} MB |"
    yield f"| an open subscription, with its socket | {c.subscriber_bytes / 1e3:.0f} KB |"
    yield (
        "| an output in the database, with its turn, image record and ledger "
        f"| {c.landed_document_bytes / 1e3:.1f} KB |"
    )
    yield f"| its image in the object store, with thumbnails | {c.photograph_bytes / 1e6:.1f} MB |"


def accuracy_table(a: Accuracy) -> Iterator[str]:
    yield _measured(a.measured)
    yield ""
    yield "| API processes | workers | used, cores | calculated, cores | ratio |"
    yield "| --- | --- | --- | --- | --- |"
    for one in a.compared:
        yield (
            f"| {one.apis} | {one.workers or '–'} | {one.used:.3f} | {one.calculated:.3f} "
            f"| {one.ratio:.2f} |"
        )


def fleet_table(c: Coefficients) -> Iterator[str]:
    yield "| viewers | outputs/s | open subscriptions | API processes | workers | database |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for name, day, databases in _DAYS:
        busiest = busiest_of(play(day, c))
        a, each = busiest.activity, f"{databases} × " if databases > 1 else ""
        yield (
            f"| {name} | {each}{a.landed:.0f} | {each}{a.subscribers:,.0f} | {each}{busiest.apis} "
            f"| {each}{busiest.workers} | {each}{busiest.usage.mongod:.1f} cores, "
            f"{busiest.usage.operations:,.0f} operations/s |"
        )


def rules_table(c: Coefficients) -> Iterator[str]:
    """What a planner needs most, from the costs."""
    held = (_MEMORY_OF_A_PROCESS - c.api_bytes) / c.subscriber_bytes
    output = c.landed + c.decoding + c.change * c.landed_changes
    yield "| from these costs | |"
    yield "| --- | --- |"
    yield f"| outputs per second of one process that does all | {BUSY / output.processor:.1f} |"
    yield f"| outputs per second of ten, eight of them workers | {8 * BUSY / output.worker:.0f} |"
    yield f"| outputs per second and core of the database | {1 / output.mongod:.0f} |"
    yield f"| memory of a million open subscriptions | {c.subscriber_bytes * 1e6 / 1e9:.0f} GB |"
    yield f"| open subscriptions of an API process with 4 GB | {held:,.0f} |"
    yield (
        f"| processor time until {_RECONNECTING:,} subscriptions have been resumed "
        f"| {_RECONNECTING * c.query.api:.0f} s |"
    )
    yield (
        "| until the last of a thousand subscribers of a process has an update "
        f"| {_ms(c.delivered.api * 1_000)} ms |"
    )
    for changes in _CHANGES:
        yield (
            f"| reading {changes:,} changes per second, without partitions, in each API process "
            f"| {c.feed_reader.api * changes * 100:.0f} % of a core |"
        )


def tables_of_costs(c: Coefficients, a: Accuracy) -> dict[str, Iterator[str]]:
    return {
        "costs": costs_table(c),
        "memory": memory_table(c),
        "rules": rules_table(c),
        "accuracy": accuracy_table(a),
    }


def with_tables(text: str, tables: Mapping[str, Iterable[str]]) -> str:
    """The page, with each table between its markers."""
    for name, lines in tables.items():
        marker = f"<!-- {name} -->"
        before, _, after = text.split(marker)
        text = before + "\n".join([marker, *lines, marker]) + after
    return text


def _measured(m: dict[str, str]) -> str:
    at = datetime.fromisoformat(m["at"])
    return (
        f"Measured on {at.day} {at:%B %Y} on {m['cores']} cores, at a scale of {m['scale']} and a "
        f"load average of {float(m['load average']):.0f}:"
    )


def _ms(seconds: float) -> str:
    return _short(seconds * 1_000)


def _short(value: float) -> str:
    """Two digits; nothing where there is next to nothing."""
    if value < 0.005:
        return "–"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the load")
    parser.add_argument("--seconds", type=float, default=30.0, help="for each comparison")
    parser.add_argument("--tables", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.tables:
        costs = await measure(scale=options.scale)
        costs.write()
        compared = await compare(costs, seconds=options.seconds, scale=options.scale)
        measured = {
            "at": datetime.now(UTC).isoformat(timespec="minutes"),
            "cores": str(os.cpu_count()),
            "scale": f"{options.scale:g}",
            "load average": f"{os.getloadavg()[0]:.1f}",
        }
        Accuracy(compared, measured).write()
    costs, accuracy = Coefficients.read(), Accuracy.read()
    tables = {**tables_of_costs(costs, accuracy), "fleet": fleet_table(costs)}
    PATH.write_text(with_tables(PATH.read_text(), tables))
    return 0 if all(one.agrees for one in accuracy.compared) else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
