"""For operators: block a viewer, unblock one, list those who are blocked.

`python -m commands.viewers block VIEWER --reason TEXT`, `unblock VIEWER` and `list`. A viewer is
named by id (`user_…`) or by the `sub` of their tokens. A block takes effect within 5 seconds in
every process: requests are answered with FORBIDDEN, WebSockets close with 4403, and streams end.
"""

import sys
from argparse import ArgumentParser, Namespace

from commands.arguments import MAX_REASON, line_of_text
from commands.console import run_main
from commands.startup import open_command_database, run_with_settings, viewer_id_named
from domain.ports.viewers import Block
from runtime.lifecycle import FAILED, STOPPED, print_error
from settings import Settings
from storage.mongo.accounts import MongoAccountRepository
from storage.mongo.viewers import MongoViewerRepository


def main(arguments: list[str]) -> int:
    """Run the command. Return 1 if the viewer to unblock was not blocked, 2 if it cannot run."""
    options = make_parser().parse_args(arguments)
    return run_with_settings(lambda settings: run(settings, options))


async def run(settings: Settings, options: Namespace) -> int:
    """Do what the arguments say. Return the exit code."""
    async with open_command_database(settings) as (complete, database):
        viewers = MongoViewerRepository(database)
        if options.command == "list":
            lines = [_describe_block(block) for block in await viewers.list_blocks()]
            print("\n".join(lines) or "No viewer is blocked.")
            return STOPPED
        viewer_id = viewer_id_named(complete, options.viewer)
        if options.command == "block":
            await viewers.block(viewer_id, reason=options.reason)
            print(f"{viewer_id} is blocked.")
            # `is_known` says who has sample images: in production, nobody.
            if not await MongoAccountRepository(database).list_existing([viewer_id]):
                print_error("This viewer has no account yet: check the name.")
        elif await viewers.unblock(viewer_id):
            print(f"{viewer_id} is no longer blocked.")
        else:
            print_error(f"{viewer_id} was not blocked.")
            return FAILED
        return STOPPED


def _describe_block(block: Block) -> str:
    reason = f": {block.reason}" if block.reason else ""
    return f"{block.viewer_id}  since {block.since:%Y-%m-%d %H:%M}Z{reason}"


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m commands.viewers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    block = commands.add_parser("block", help="answer a viewer's requests with FORBIDDEN")
    unblock = commands.add_parser("unblock", help="let a viewer in again")
    for subcommand in (block, unblock):
        subcommand.add_argument("viewer", help="a viewer's ID, or the `sub` of their tokens")
    block.add_argument(
        "--reason", type=line_of_text(MAX_REASON), help="kept with the block, for operators"
    )
    commands.add_parser("list", help="print who is blocked, since when and why")
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main))
