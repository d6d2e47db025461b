"""For operators: hold the object store against the database.

`python -m objects compare` tells what nothing refers to, and what is referred to and missing;
with `--delete` it deletes what nothing refers to once that is older than a day.
"""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime

from bootstrap import open_objects
from domain.errors import Overloaded, StoreUnavailable
from domain.sealing import Seal
from domain.services.comparing import Comparison, ObjectComparer
from entrance import CANNOT_START, FAILED, STOPPED, CannotStart, complain, database
from settings import Settings, SettingsError, read_settings, secret_of
from storage.database import open_database
from storage.used_keys import MongoUsedKeyRepository


def main(arguments: list[str]) -> int:
    """Compare; 1 where something is missing or nothing fits, 2 where it cannot be done."""
    asked = _parser().parse_args(arguments)
    try:
        return asyncio.run(_run(read_settings(), asked))
    except (SettingsError, CannotStart, Overloaded, StoreUnavailable) as error:
        complain(error)
        return CANNOT_START


async def _run(settings: Settings, asked: Namespace) -> int:
    async with database(settings) as (complete, _):
        assert complete.mongodb_uri is not None
        uri = complete.mongodb_uri.get_secret_value()
        async with (
            open_objects(complete, Seal(secret_of(complete))) as (store, _),
            open_database(uri, complete.mongodb_database) as opened,
        ):
            comparer = ObjectComparer(store, MongoUsedKeyRepository(opened))
            found = await comparer.compare()
            code = _show(found)
            if asked.delete:
                code = await _delete(comparer, found) or code
            return code


def _show(found: Comparison) -> int:
    for key in found.missing:
        print(f"missing  {key}")
    for orphan in found.orphans:
        print(f"orphan   {orphan.key}  {orphan.byte_size}  {orphan.modified_at:%Y-%m-%d %H:%M}Z")
    old = found.old_orphans(datetime.now(UTC))
    print(
        f"{found.objects} objects of {found.byte_size} bytes: {found.referred} are referred to, "
        f"{len(found.orphans)} are not, {len(old)} of these for longer than a day. "
        f"{len(found.missing)} are missing."
    )
    return FAILED if found.missing else STOPPED


async def _delete(comparer: ObjectComparer, found: Comparison) -> int:
    old = found.old_orphans(datetime.now(UTC))
    if old and not found.referred:
        complain("Nothing here belongs to this database; is it the right one? Nothing is deleted.")
        return FAILED
    await comparer.delete(old)
    print(f"{len(old)} objects of {sum(one.byte_size for one in old)} bytes deleted.")
    return STOPPED


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m objects", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser("compare", help="tell orphans and what is missing")
    compare.add_argument(
        "--delete", action="store_true", help="delete what nothing has referred to for a day"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
