"""Checks provider credentials: requests one cheap image from each provider, as workers do.

`python -m commands.check_providers` checks all of them at the same time, with a name only that one.
Each image is billed. Neither a key nor a URL is printed, whatever a provider answers.
"""

import asyncio
import logging
import re
import sys
from argparse import ArgumentParser
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Final

import structlog

from assembly.image_tools import ImageTools, open_image_tools
from commands.console import run_main
from commands.startup import run_with_settings
from domain.errors import GenerationErrorCode, GenerationFailed
from domain.generation import Delivery, GenerationRequest, SilentObserver
from domain.images import Rendition
from domain.models import SQUARE, ImageModel, Quality, Resolution, Scene
from domain.outputs import GenerationError
from domain.ports.providers import Provider
from providers.catalogue import load_catalogue
from providers.http import quote
from runtime.lifecycle import FAILED, STOPPED, CannotStart
from settings import (
    AzureSettings,
    ProviderSettings,
    Settings,
    secrets_in,
    variable_of,
)

PROMPT: Final = "A red boat"

_LINK: Final = re.compile(r"(?i)\b(?:[a-z][a-z0-9+.-]*://|data:)\S+")
_REDACTED: Final = "[…]"

log = structlog.get_logger(__name__)


def main(arguments: list[str]) -> int:
    """Check the providers. Return 1 if one has failed, 2 if none can be checked."""
    options = _parser().parse_args(arguments)
    return run_with_settings(
        lambda settings: _run(settings, options.providers, verbose=options.verbose)
    )


async def _run(settings: Settings, names: Collection[str], *, verbose: bool) -> int:
    if not verbose:
        # The line about a failure says what the log would say.
        logging.disable(logging.ERROR)
    async with open_image_tools(settings) as tools:
        chosen = _choose(names, tools.remote)
        async with asyncio.TaskGroup() as group:
            checks = [
                group.create_task(_Check(tools, provider, settings, verbose=verbose).run())
                for provider in chosen
            ]
    return STOPPED if all(check.result() for check in checks) else FAILED


def _choose(names: Collection[str], remote: Mapping[str, Provider]) -> list[Provider]:
    if not remote:
        keys = [
            variable_of(Settings, name, "key")
            for name, field in Settings.model_fields.items()
            if isinstance(field.default, ProviderSettings | AzureSettings)
        ]
        raise CannotStart(f"No provider has a key here: set one of {', '.join(keys)}.")
    missing = [name for name in names if name not in remote]
    if missing:
        names_with_keys = ", ".join(remote)
        raise CannotStart(
            f"No provider called {missing[0]} has a key here; these have: {names_with_keys}."
        )
    return [provider for name, provider in remote.items() if name in names or not names]


@dataclass(frozen=True, slots=True)
class _Check:
    """Requests one image from a provider, and prints a line about it."""

    tools: ImageTools
    provider: Provider
    settings: Settings
    verbose: bool

    async def run(self) -> bool:
        """Run the check. Return whether an image was delivered."""
        model = _find_cheapest(self.provider.name)
        if model is None:
            self._fail(GenerationErrorCode.MODEL_RETIRED, "none of the catalogue's is available")
            return False
        started = monotonic()
        try:
            async with asyncio.timeout(model.deadline.total_seconds()):
                observer = (
                    _ProgressPrinter(self.provider.name) if self.verbose else SilentObserver()
                )
                delivery = await self.provider.generate(_cheapest_request(model), observer)
                seconds = monotonic() - started
                picture = await self._process(delivery)
        except GenerationFailed as failure:
            self._fail(failure.code, f"{model.id}: {failure.detail}")
        except TimeoutError:
            self._fail(GenerationErrorCode.TIMED_OUT, model.id)
        except Exception as fault:
            log.critical("provider check broke", provider=self.provider.name, exc_info=True)
            self._fail(GenerationErrorCode.INTERNAL, f"{model.id}: {type(fault).__name__}")
        else:
            self._print(f"ok: {_describe(model, delivery, seconds=seconds, picture=picture)}")
            return True
        return False

    async def _process(self, delivery: Delivery) -> Rendition:
        if not delivery.images:
            raise GenerationFailed(GenerationErrorCode.NO_IMAGE, retryable=True)
        return (await self.tools.image_processor.process(delivery.images[0].data)).original

    def _fail(self, code: GenerationErrorCode, detail: str) -> None:
        text = _LINK.sub(_REDACTED, quote(detail, leave_out=secrets_in(self.settings)))
        message = GenerationError(code, retryable=False).message
        self._print(f"{code}: {message} ({text.removesuffix(': ')})")

    def _print(self, words: str) -> None:
        print(f"{self.provider.name}: {words}", flush=True)


class _ProgressPrinter(SilentObserver):
    """Prints the progress of a run."""

    def __init__(self, provider: str) -> None:
        self._provider = provider

    async def submitting(self) -> None:
        self._print("submitting")

    async def queued(self, position: int) -> None:
        self._print(f"{position} jobs before it")

    async def progress(self, fraction: float) -> None:
        self._print(f"{fraction:.0%}")

    def _print(self, words: str) -> None:
        print(f"{self._provider}: … {words}", flush=True)


def _find_cheapest(provider: str) -> ImageModel | None:
    """The first of the provider's models whose image costs the fewest credits."""
    registry = load_catalogue(rehearsals=False, with_credentials={provider})
    return min(
        (
            model
            for model in registry.find(
                provider=provider, scene=Scene.TEXT_TO_IMAGE, include_unlisted=True
            )
            if model.available
        ),
        key=lambda model: model.credits_per_image(Scene.TEXT_TO_IMAGE),
        default=None,
    )


def _cheapest_request(model: ImageModel) -> GenerationRequest:
    """The cheapest request to the model."""
    size = model.custom_size
    return GenerationRequest(
        attempt=1,
        model=model,
        prompt=PROMPT,
        references=(),
        aspect_ratio=model.fit_aspect_ratio(SQUARE),
        resolution=min(model.resolutions, key=list(Resolution).index),
        size=(size.minimum, size.minimum) if size else None,
        quality=min(model.qualities, key=list(Quality).index, default=None),
        seconds_left=model.deadline.total_seconds(),
    )


def _describe(model: ImageModel, delivery: Delivery, *, seconds: float, picture: Rendition) -> str:
    facts = [
        f"{model.id}, {seconds:.1f} s",
        f"{picture.width} × {picture.height} pixels",
        f"{len(picture.data):,} bytes of {picture.content_type}",
        f"{model.credits_per_image(Scene.TEXT_TO_IMAGE)} credits",
    ]
    if delivery.usage is not None and delivery.usage.total_tokens is not None:
        facts.append(f"{delivery.usage.total_tokens} tokens")
    return ", ".join(facts)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m commands.check_providers", description=__doc__)
    parser.add_argument("providers", nargs="*", help="which ones; by default all that have a key")
    parser.add_argument("-v", "--verbose", action="store_true", help="also print how far each is")
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main))
