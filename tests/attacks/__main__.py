"""`make attack`: attack a Darkroom in production with real tokens, and print what it cost others.

`python -m tests.attacks --scale 0.1 --seconds 60 --only P8` tries a tenth, no attack for
longer than a minute. Exit code 1: a promise did not hold.
"""

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, NamedTuple

from tests.attacks import (
    documents,
    foreign_ids,
    inputs,
    leaks,
    outages,
    protocols,
    rights,
    secrets,
    stalling,
)
from tests.attacks.limits import Limit
from tests.attacks.site import Site, a_site, neighbours
from tests.attacks.watching import COLUMNS, watching
from tests.conftest import MEMORY_FOLDER
from tests.promises.test_inputs import SENTENCES_OF_LOG
from tests.resilience.scale import SEED

NICE: Final = 10
"""Attackers have machines of their own, and take no processor from the server."""


class Attack(NamedTuple):
    run: Callable[[Site, Limit], Awaitable[str]]
    usual: int
    """The count of `--scale 1`, as promised."""


async def nothing(_: Site, limit: Limit) -> str:
    """What the figures are without an attack."""
    await asyncio.sleep(min(limit.count, limit.seconds))
    return f"nothing for {limit.count} s"


ATTACKS: Final = {
    "none": Attack(nothing, 20),
    "P7": Attack(foreign_ids.attack, 250_000),
    "P8": Attack(inputs.attack, 500_000),
    "P9": Attack(documents.attack, 5_000),
    "P10": Attack(stalling.attack, 2_000),
    "P12": Attack(outages.attack, 1),
    "P15": Attack(rights.attack, 1_000),
    "P18": Attack(leaks.attack, 10_000),
    "P19": Attack(secrets.attack, 20_000),
    "P20": Attack(protocols.attack, 20),
}


class Report:
    """Written while the attacks go on: one that is ended early is not lost."""

    def __init__(self) -> None:
        self.failures = 0
        _print_row(["", "what", *COLUMNS])
        _print_row(["---"] * (2 + len(COLUMNS)))

    async def add(
        self, name: str, attack: Attack, limit: Limit, site: Site, lines: asyncio.StreamReader
    ) -> None:
        async with watching(site, lines) as figures:
            try:
                what = await attack.run(site, limit)
            except Exception as failure:
                self.failures += 1
                what = f"FAILED after {limit.done}: {failure!r:.2000}"
        _print_row([name, f"{what} ({limit.seconds_taken:.0f} s)", *figures.cells()])

    def end(self, site: Site, code: int) -> bool:
        """Say how the API ended. Whether all is well."""
        faults = [words for words in SENTENCES_OF_LOG if words in site.api.text_of_log()]
        starts = site.api.starts
        sys.stdout.write(
            f"\nSeed {SEED}. SIGTERM: code {code}. Starts: {starts}. Faults in its log: {faults}\n"
        )
        return not (self.failures or code or faults or starts != 1)


async def run(folder: Path, options: argparse.Namespace) -> bool:
    report = Report()
    async with a_site(folder) as site:
        async with neighbours(site) as lines:
            os.nice(NICE)
            for name, attack in ATTACKS.items():
                if not options.only or name in options.only:
                    limit = Limit(max(1, round(attack.usual * options.scale)), options.seconds)
                    await report.add(name, attack, limit, site, lines)
        all_is_well = report.end(site, await site.api.terminate())
    if options.log:
        shutil.copy(site.api.log_path, options.log)
    return all_is_well


def _print_row(cells: list[str]) -> None:
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.attacks")
    parser.add_argument("--scale", type=float, default=1.0, help="of the counts")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each attack, at most")
    parser.add_argument("--only", nargs="*", choices=list(ATTACKS))
    parser.add_argument("--log", type=Path, help="a file for the log of the API")
    options = parser.parse_args()
    memory = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        return int(not asyncio.run(run(Path(folder), options)))


if __name__ == "__main__":
    sys.exit(main())
