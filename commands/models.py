"""For operators: switch a model or a provider off and on, for all processes at once.

`python -m commands.models off NAME --reason TEXT`, `on NAME` and `list`. NAME is a model's id or
alias, or a provider's name. Processes know it within five seconds. What is running continues, and
what waits fails over to another provider of its model, or waits until the name is switched on.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from assembly.catalogue import load_caption_registry, load_registry
from assembly.image_tools import open_image_tools
from commands.arguments import MAX_REASON, line_of_text
from commands.console import run_main
from commands.startup import open_command_database, run_with_settings
from domain.ports.model_availability import SwitchedOff, Unavailable
from domain.registry import RegisteredModel, Registry
from runtime.lifecycle import FAILED, STOPPED, print_error
from settings import Settings
from storage.mongo.model_availability import MongoModelAvailabilityRepository

Registries: TypeAlias = Sequence[Registry[Any]]
"""One registry for each kind of models."""


def main(arguments: list[str]) -> int:
    """Run the command. Return 1 if there is no model or provider of this name, 2 if it
    cannot run.
    """
    options = _parser().parse_args(arguments)
    return run_with_settings(lambda settings: _run(settings, options))


async def _run(settings: Settings, options: Namespace) -> int:
    async with open_image_tools(settings) as tools:
        registries = (
            load_registry(settings, with_credentials=tools.remote),
            load_caption_registry(settings, with_credentials=tools.remote),
        )
    async with open_command_database(settings) as (_, database):
        stored = MongoModelAvailabilityRepository(database)
        if options.command == "list":
            _show(registries, await stored.find_unavailable())
            return STOPPED
        name = _find(registries, options.name)
        if name is None:
            print_error(f"{options.name} is neither a model nor a provider of the catalogue.")
            return FAILED
        if options.command == "off":
            await stored.switch_off(name, reason=options.reason)
            print(f"{name} is switched off. All processes know it within five seconds.")
        elif await stored.switch_on(name):
            print(f"{name} is switched on. All processes know it within five seconds.")
        else:
            print(f"{name} was neither switched off nor withdrawn.")
        return STOPPED


def _find(registries: Registries, name: str) -> str | None:
    for registry in registries:
        model = registry.get(name)
        if model is not None:
            return str(model.id)
    providers = {provider for model in _all(registries) for provider in model.providers}
    return name if name in providers else None


def _all(registries: Registries) -> Sequence[RegisteredModel]:
    return [model for registry in registries for model in registry.all()]


def _show(registries: Registries, unavailable: Unavailable) -> None:
    off = {off_model.name: off_model for off_model in unavailable.off}
    for registry in registries:
        registry.withdraw(unavailable.withdrawn)
        registry.switch_off({off_model.name: off_model.since for off_model in unavailable.off})
    models = _all(registries)
    for name in sorted(off.keys() - {model.id for model in models}):
        print(f"{name:<34} {'provider':<22} {_describe_switch(off[name])}")
    for model in models:
        state = _describe_state(model, off) + _describe_withdrawals(model, unavailable)
        print(f"{model.id:<34} {','.join(model.providers):<22} {state}")


def _describe_state(model: RegisteredModel, off: Mapping[str, SwitchedOff]) -> str:
    if model.unavailable_reason is None:
        return f"available by {model.provider}"
    reason = off.get(model.id) or off.get(model.provider)
    return _describe_switch(reason) if reason else model.unavailable_reason.value


def _describe_withdrawals(model: RegisteredModel, unavailable: Unavailable) -> str:
    providers = [one.provider for one in unavailable.withdrawn if one.model_id == model.id]
    return f"; withdrawn by {', '.join(providers)}" if providers else ""


def _describe_switch(model: SwitchedOff) -> str:
    return f"SWITCHED_OFF since {model.since:%Y-%m-%d %H:%M}Z: {model.reason}"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m commands.models", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    off = commands.add_parser("off", help="stop using this model or provider")
    off.add_argument("name", help="a model's ID or alias, or a provider")
    off.add_argument(
        "--reason", required=True, type=line_of_text(MAX_REASON), help="why, for other operators"
    )
    on = commands.add_parser("on", help="use it again, also where it was withdrawn")
    on.add_argument("name", help="a model's ID or alias, or a provider")
    commands.add_parser("list", help="all models, and why those that are not available are not")
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main))
