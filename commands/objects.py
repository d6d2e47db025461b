"""For operators: hold the object store against the database.

`python -m commands.objects compare` tells what nothing refers to, and what is referred to and
missing; with `--delete` it deletes what nothing refers to once that is older than a day.
It goes shard by shard, and holds the keys of one at a time.
"""

import asyncio
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from datetime import UTC, datetime

from bootstrap import open_objects
from domain.cleanup.reconciliation import ObjectReconciler
from domain.cleanup.store_ownership import Owners, StoreOwnership
from domain.errors import Overloaded, StoreUnavailable
from domain.images import SHARDS
from domain.signing import Signer
from runtime.lifecycle import CANNOT_START, FAILED, STOPPED, CannotStart, complain, database
from settings import Settings, SettingsError, read_settings, secret_of
from storage.mongo.database import open_database
from storage.mongo.referenced_objects import MongoReferencedObjectRepository


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
            open_objects(complete, Signer(secret_of(complete))) as (store, _),
            open_database(uri, complete.mongodb_database) as opened,
        ):
            comparer = ObjectReconciler(store, MongoReferencedObjectRepository(opened))
            total = await _tell(comparer)
            code = FAILED if total.missing else STOPPED
            if asked.delete:
                owners = await StoreOwnership(comparer.objects, comparer.keys).owners()
                code = await _delete(comparer, total, owners) or code
            return code


@dataclass(slots=True)
class _Total:
    """What was found in all shards."""

    objects: int = 0
    byte_size: int = 0
    referred: int = 0
    orphans: int = 0
    old: int = 0
    missing: int = 0


async def _tell(comparer: ObjectReconciler) -> _Total:
    total = _Total()
    for shard in SHARDS:
        found = await comparer.compare(shard)
        for key in found.missing:
            print(f"missing  {key}")
        for one in found.orphans:
            print(f"orphan   {one.key}  {one.byte_size}  {one.modified_at:%Y-%m-%d %H:%M}Z")
        total.objects += found.objects
        total.byte_size += found.byte_size
        total.referred += found.referred
        total.orphans += len(found.orphans)
        total.old += len(found.old_orphans(datetime.now(UTC)))
        total.missing += len(found.missing)
    print(
        f"{total.objects} objects of {total.byte_size} bytes: {total.referred} are referred to, "
        f"{total.orphans} are not, {total.old} of these older than a day. "
        f"{total.missing} are missing."
    )
    return total


async def _delete(comparer: ObjectReconciler, total: _Total, owners: Owners) -> int:
    if total.old and not total.referred:
        complain("Nothing here belongs to this database; is it the right one? Nothing is deleted.")
        return FAILED
    if total.old and owners.others:
        complain(
            f"Another database keeps images here: {', '.join(owners.others)} is its mark. If it is "
            "gone for good, delete the mark. Nothing is deleted."
        )
        return FAILED
    count = byte_size = 0
    for shard in SHARDS:  # anew, since nothing but sums was kept
        old = (await comparer.compare(shard)).old_orphans(datetime.now(UTC))
        await comparer.delete(old)
        count, byte_size = count + len(old), byte_size + sum(one.byte_size for one in old)
    print(f"{count} objects of {byte_size} bytes deleted.")
    return STOPPED


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m commands.objects", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser("compare", help="tell orphans and what is missing")
    compare.add_argument(
        "--delete",
        action="store_true",
        help="delete what nothing refers to and is older than a day",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
