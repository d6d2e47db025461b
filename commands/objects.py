"""For operators: compare the object store with the database.

`python -m commands.objects compare` lists orphaned and missing objects; with `--delete` it deletes
orphaned objects that are older than a day. It works shard by shard, and holds the keys of one
shard in memory at a time.
"""

import sys
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from datetime import UTC, datetime

from assembly.objects import open_objects
from commands.console import run_main
from commands.startup import open_command_database, run_with_settings
from domain.cleanup.reconciliation import ObjectReconciler
from domain.cleanup.store_ownership import Owners, StoreOwnership
from domain.images import SHARDS
from domain.plurals import count
from domain.signing import Signer
from runtime.lifecycle import FAILED, STOPPED, print_error
from settings import Settings, secret_of
from storage.mongo.referenced_objects import MongoReferencedObjectRepository


def main(arguments: list[str]) -> int:
    """Run the command. Return 1 if objects are missing or none belongs here, 2 if it cannot run."""
    options = _parser().parse_args(arguments)
    return run_with_settings(lambda settings: _run(settings, options))


async def _run(settings: Settings, options: Namespace) -> int:
    async with (
        open_command_database(settings) as (complete, database),
        open_objects(complete, Signer(secret_of(complete))) as (store, _),
    ):
        reconciler = ObjectReconciler(store, MongoReferencedObjectRepository(database))
        total = await _compare_all(reconciler)
        code = FAILED if total.missing else STOPPED
        if options.delete:
            owners = await StoreOwnership(reconciler.objects, reconciler.keys).find_owners()
            code = await _delete(reconciler, total, owners) or code
        return code


@dataclass(slots=True)
class _Total:
    """The totals of all shards."""

    objects: int = 0
    byte_size: int = 0
    referred: int = 0
    orphans: int = 0
    old: int = 0
    missing: int = 0
    shards_with_old: list[str] = field(default_factory=list)


async def _compare_all(reconciler: ObjectReconciler) -> _Total:
    total = _Total()
    for shard in SHARDS:
        found = await reconciler.compare(shard)
        for key in found.missing:
            print(f"missing  {key}")
        for orphan in found.orphans:
            print(
                f"orphan   {orphan.key}  {orphan.byte_size}  {orphan.modified_at:%Y-%m-%d %H:%M}Z"
            )
        total.objects += found.objects
        total.byte_size += found.byte_size
        total.referred += found.referred
        total.orphans += len(found.orphans)
        if old := len(found.old_orphans(datetime.now(UTC))):
            total.old += old
            total.shards_with_old.append(shard)
        total.missing += len(found.missing)
    print(
        f"{count(total.objects, 'object')}, {count(total.byte_size, 'byte')}: "
        f"{total.referred:,} in use, {total.orphans:,} orphaned, {total.old:,} of them older than "
        f"a day; {total.missing:,} missing."
    )
    return total


async def _delete(reconciler: ObjectReconciler, total: _Total, owners: Owners) -> int:
    if total.old and not total.referred:
        print_error("No object belongs to this database. Is it the right one? Nothing was deleted.")
        return FAILED
    if total.old and owners.others:
        print_error(
            f"Another database uses this store; its mark is {', '.join(owners.others)}. If that "
            "database no longer exists, delete the mark. Nothing was deleted."
        )
        return FAILED
    deleted = byte_size = 0
    for shard in total.shards_with_old:  # They are compared again: their keys were not kept.
        old = (await reconciler.compare(shard)).old_orphans(datetime.now(UTC))
        await reconciler.delete(old)
        deleted, byte_size = deleted + len(old), byte_size + sum(orphan.byte_size for orphan in old)
    print(f"Deleted {count(deleted, 'object')}, {count(byte_size, 'byte')}.")
    return STOPPED


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m commands.objects", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser("compare", help="list orphaned and missing objects")
    compare.add_argument(
        "--delete",
        action="store_true",
        help="delete orphaned objects that are older than a day",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main))
