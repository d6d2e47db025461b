"""For operators: grant credits to a viewer, limit them by day, show them, and prove that all
accounts agree with the ledger.

`python -m commands.credits grant VIEWER CREDITS --key KEY`, `limit VIEWER CREDITS`,
`limit VIEWER none`, `show VIEWER` and `prove`. A viewer is named by id (`user_…`) or by the `sub`
of their tokens.
"""

import sys
from argparse import ArgumentParser, Namespace
from typing import Final

from commands.arguments import line_of_text, whole_number
from commands.console import run_main
from commands.startup import open_command_database, run_with_settings, viewer_id_named
from domain.conflicts import Conflict
from domain.credits import MAX_BALANCE, Account, Proof
from domain.ids import ViewerId
from domain.plurals import count
from runtime.lifecycle import FAILED, STOPPED, print_error
from settings import Settings
from storage.mongo.accounts import MongoAccountRepository

_MAX_CREDITS: Final = 1_000_000_000
_MAX_DAYS: Final = 10_000
_MAX_KEY_LENGTH: Final = 200


def main(arguments: list[str]) -> int:
    """Run the command. Return 1 if accounts do not agree, 2 if it cannot run."""
    options = _parser().parse_args(arguments)
    return run_with_settings(lambda settings: _run(settings, options))


async def _run(settings: Settings, options: Namespace) -> int:
    async with open_command_database(settings) as (complete, database):
        accounts = MongoAccountRepository(database)
        if options.command == "prove":
            return _show_proof(await accounts.prove())
        viewer_id = viewer_id_named(complete, options.viewer)
        if options.command == "show":
            return await _show_viewer(accounts, viewer_id, days=options.days)
        if options.command == "limit":
            return await _set_daily_limit(accounts, viewer_id, options.credits)
        # The account must exist first: otherwise it would depend on timing whether a new viewer
        # also gets the starting credits.
        await accounts.open(viewer_id, starting_credits=complete.starting_credits or 0)
        granted = await accounts.grant(viewer_id, options.credits, key=options.key)
        if granted is Conflict.LIMIT_REACHED:
            print_error(f"{viewer_id} would have more than {MAX_BALANCE:,} credits.")
        elif isinstance(granted, Conflict):
            print_error(f"{viewer_id} already has a grant with the key {options.key}.")
        else:
            _show_account(granted)
        return FAILED if isinstance(granted, Conflict) else STOPPED


async def _show_viewer(accounts: MongoAccountRepository, viewer_id: ViewerId, *, days: int) -> int:
    account = await accounts.find(viewer_id)
    if account is None:
        print_error(f"{viewer_id} has no account.")
        return FAILED
    _show_account(account)
    print(f"{'day (UTC)':<12}{'granted':>12}{'reserved':>12}{'charged':>12}{'released':>12}")
    for day in await accounts.list_days(viewer_id, limit=days):
        amounts = (day.granted, day.reserved, day.charged, day.released)
        print(f"{day.day:%Y-%m-%d}  " + "".join(f"{amount:>12,}" for amount in amounts))
    return STOPPED


async def _set_daily_limit(
    accounts: MongoAccountRepository, viewer_id: ViewerId, credits: int | None
) -> int:
    if not await accounts.set_daily_limit(viewer_id, credits):
        print_error(f"{viewer_id} has no account.")
        return FAILED
    if credits is None:
        print(f"{viewer_id} can spend all their credits on one day.")
    else:
        print(f"{viewer_id} can spend {count(credits, 'credit')} on a day, from 00:00 UTC.")
    return STOPPED


def _show_account(account: Account) -> None:
    balance = count(account.balance, "credit")
    print(f"{account.viewer_id} has {balance}, {account.reserved:,} reserved.")
    if account.daily_limit is not None and account.spent_today is not None:
        print(
            f"Of {count(account.daily_limit, 'credit')} a day, {account.spent_today:,} spent today."
        )


def _show_proof(proof: Proof) -> int:
    print(
        f"{count(proof.accounts, 'account')}, {count(proof.movements, 'movement')}: "
        f"balance {proof.balance:,}, reserved {proof.reserved:,} "
        f"for {count(proof.active_outputs, 'active output')}."
    )
    for one in proof.discrepancies:
        print(f"{one.viewer_id}: {one.what} do not agree: {one.account} and {one.elsewhere}.")
    if not proof.discrepancies:
        print("Every account agrees with its ledger and with its outputs.")
    return FAILED if proof.discrepancies else STOPPED


def _parse_limit(text: str) -> int | None:
    return None if text == "none" else whole_number(0, _MAX_CREDITS)(text)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m commands.credits", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    grant = commands.add_parser("grant", help="add credits to an account")
    grant.add_argument("viewer", help="a viewer's ID, or the `sub` of their tokens")
    grant.add_argument("credits", type=whole_number(1, _MAX_CREDITS), help="the number of credits")
    grant.add_argument(
        "--key",
        required=True,
        type=line_of_text(_MAX_KEY_LENGTH),
        help="an idempotency key, such as an invoice: it grants once",
    )
    limit = commands.add_parser("limit", help="how much a viewer can spend on one day")
    limit.add_argument("viewer", help="a viewer's ID, or the `sub` of their tokens")
    limit.add_argument("credits", type=_parse_limit, help="the number of credits, or `none`")
    show = commands.add_parser("show", help="what was granted, reserved and charged, by day")
    show.add_argument("viewer", help="a viewer's ID, or the `sub` of their tokens")
    show.add_argument(
        "--days",
        type=whole_number(1, _MAX_DAYS),
        default=30,
        help="how many days with movements; 30 by default",
    )
    commands.add_parser("prove", help="compare all accounts with the ledger and the outputs")
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main))
