"""For operators: add the search words to images that earlier releases have stored without them.

Run `python -m commands.search_words` once, beside running processes: it pauses for as long as it
works. It can be interrupted and run again.
"""

import asyncio
import sys
from argparse import ArgumentParser
from time import monotonic
from typing import Final

from commands.console import run_main
from commands.startup import open_command_database, run_with_settings
from domain.ids import ImageId
from domain.plurals import count
from runtime.lifecycle import STOPPED
from settings import Settings
from storage.mongo.image_words import MongoImageWordRepository

_BATCH: Final = 500


def main(arguments: list[str]) -> int:
    """Run the command. Return 2 if it cannot run."""
    ArgumentParser(prog="python -m commands.search_words", description=__doc__).parse_args(
        arguments
    )
    return run_with_settings(_run)


async def _run(settings: Settings) -> int:
    changed, last = 0, ImageId("")
    async with open_command_database(settings) as (_, database):
        words = MongoImageWordRepository(database)
        while True:
            begun_at = monotonic()
            done = await words.add_missing(after=last, limit=_BATCH)
            changed += done.changed
            if done.last is None:
                break
            last = done.last
            await asyncio.sleep(monotonic() - begun_at)
    print(f"{count(changed, 'image')} can be found by words now.")
    return STOPPED


if __name__ == "__main__":
    sys.exit(run_main(main))
