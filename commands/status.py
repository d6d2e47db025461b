"""For operators: show what waits, what is stuck, what is reserved, and which models are
unavailable.

`python -m commands.status`. Exit code 1: outputs are stuck.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Final

from assembly.catalogue import load_caption_registry, load_registry
from commands.console import run_main
from commands.startup import open_command_database, run_with_settings
from domain.ids import ModelId, ViewerId
from domain.plurals import count
from domain.ports.model_availability import Unavailable
from domain.ports.operators import Backlog, StuckOutput
from runtime.lifecycle import FAILED, STOPPED
from settings import Settings
from storage.mongo.backlog import MongoBacklogRepository
from storage.mongo.model_availability import MongoModelAvailabilityRepository

_MAX_LISTED: Final = 50


def main(arguments: list[str]) -> int:
    """Show the status. Return 1 if outputs are stuck, 2 if it cannot run."""
    ArgumentParser(prog="python -m commands.status", description=__doc__).parse_args(arguments)
    return run_with_settings(_run)


async def _run(settings: Settings) -> int:
    models = [*load_registry(settings).all(), *load_caption_registry(settings).all()]
    providers = {model.id: model.provider for model in models}
    async with open_command_database(settings) as (_, database):
        backlogs = MongoBacklogRepository(database)
        waiting = await backlogs.list_backlogs()
        for line in _describe_backlogs(waiting, providers):
            print(line)
        for line in _describe_stuck(waiting, await backlogs.list_stuck(limit=_MAX_LISTED)):
            print(line)
        for line in _describe_debts(waiting, await backlogs.list_deletions(limit=_MAX_LISTED)):
            print(line)
        stored = MongoModelAvailabilityRepository(database)
        for line in _describe_unavailable(await stored.find_unavailable()):
            print(line)
    return FAILED if any(backlog.stuck for backlog in waiting) else STOPPED


def _describe_backlogs(
    backlogs: Sequence[Backlog], providers: Mapping[ModelId, str]
) -> Iterable[str]:
    yield f"{count(sum(backlog.count for backlog in backlogs), 'unfinished output')}."
    for backlog in backlogs:
        yield (
            f"  {providers.get(backlog.model_id, 'unknown'):<12} {backlog.model_id:<32} "
            f"{backlog.status:<11}"
            f"{backlog.count:>7,}  oldest {_format_duration(backlog.oldest)}"
        )


def _describe_stuck(backlogs: Sequence[Backlog], found: Sequence[StuckOutput]) -> Iterable[str]:
    number = sum(backlog.stuck for backlog in backlogs)
    yield f"{count(number, 'output')} should have ended by now."
    for output in found:
        held = (
            f"held until {output.lease_until:%H:%M:%S}Z"
            if output.lease_until
            else "held by no worker"
        )
        yield (
            f"  {output.output_id}  {output.viewer_id}  {output.model_id}  {output.status} since "
            f"{output.queued_at:%Y-%m-%d %H:%M:%S}Z, {held}"
        )


def _describe_debts(backlogs: Sequence[Backlog], deletions: Sequence[ViewerId]) -> Iterable[str]:
    reserved = sum(backlog.credits_reserved for backlog in backlogs)
    yield f"{count(reserved, 'credit')} reserved for unfinished outputs."
    more = "At least " if len(deletions) == _MAX_LISTED else ""
    yield f"{more}{count(len(deletions), 'deletion')} of viewers not finished."
    for viewer_id in deletions:
        yield f"  {viewer_id}"


def _describe_unavailable(unavailable: Unavailable) -> Iterable[str]:
    yield f"Withdrawn by a provider: {len(unavailable.withdrawn)}."
    for withdrawal in unavailable.withdrawn:
        yield f"  {withdrawal.model_id}  by {withdrawal.provider}"
    yield f"{count(len(unavailable.off), 'name')} switched off."
    for model in unavailable.off:
        yield f"  {model.name}  since {model.since:%Y-%m-%d %H:%M}Z: {model.reason}"


def _format_duration(length: timedelta) -> str:
    return str(timedelta(seconds=round(length.total_seconds())))


if __name__ == "__main__":
    sys.exit(run_main(main))
