"""`python -m commands.check_providers`, as an operator runs it: against simulators, without any
database.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from domain.models import Scene
from tests.commands import run_with
from tests.providers.vendors import rows_of
from tests.serving import free_port, serving
from tests.simulators.fal import FalSimulator
from tests.simulators.gemini import GeminiSimulator
from tests.simulators.openai import OpenAISimulator
from tests.simulators.openrouter import OpenRouterSimulator
from tests.simulators.replicate import ReplicateSimulator
from tests.simulators.simulator import Simulator
from tests.simulators.simulator import serving as serving_simulator
from tests.simulators.wavespeed import WavespeedSimulator

SIMULATORS: Final[tuple[tuple[type[Simulator], str], ...]] = (
    (FalSimulator, ""),
    (OpenAISimulator, "/v1"),
    (GeminiSimulator, ""),
    (OpenRouterSimulator, "/api/v1"),
    (ReplicateSimulator, "/v1"),
    (WavespeedSimulator, "/api/v3"),
)
"""Each with the path of its provider's base URL."""


class Providers:
    """Simulators that are served until the test's end, and `trials` as a process."""

    def __init__(self, data_dir: Path, stack: AsyncExitStack) -> None:
        self.data_dir = data_dir
        self.simulators: dict[str, Simulator] = {}
        self._stack = stack

    async def serve(self, *names: str) -> dict[str, str]:
        """The settings that lead to them."""
        environ: dict[str, str] = {}
        for kind, path in SIMULATORS:
            if kind.provider in names:
                simulator = self.simulators[kind.provider] = kind()
                url = await self._stack.enter_async_context(serving_simulator(simulator))
                environ |= settings_of(kind.provider, kind.key, f"{url}{path}")
        return environ

    async def tried(self, *arguments: str, environ: Mapping[str, str]) -> tuple[int, str, str]:
        """The exit code, stdout and stderr."""
        environment = {**os.environ, "DARKROOM_DATA_DIR": str(self.data_dir), **environ}
        ran = await run_with(environment, "check_providers", *arguments, separate=True)
        return ran.code, ran.said, ran.complained


def settings_of(name: str, key: str, url: str) -> dict[str, str]:
    prefix = f"DARKROOM_{name.upper()}"
    return {f"{prefix}_KEY": key, f"{prefix}_URL": url}


def has_a_model(name: str) -> bool:
    return any(row.available and Scene.TEXT_TO_IMAGE in row.scenes for row in rows_of(name))


@pytest_asyncio.fixture
async def providers(tmp_path: Path) -> AsyncIterator[Providers]:
    async with AsyncExitStack() as stack:
        yield Providers(tmp_path / "data", stack)


async def test_each_provider_with_a_key_makes_one_small_image(providers: Providers) -> None:
    usable = [kind.provider for kind, _ in SIMULATORS if has_a_model(kind.provider)]
    assert {"fal", "openai", "gemini", "openrouter", "replicate"} <= set(usable)

    code, said, complained = await providers.tried(environ=await providers.serve(*usable))

    assert (code, complained) == (0, "")
    lines = sorted(said.splitlines())
    assert [line.partition(" ")[0] for line in lines] == sorted(f"{name}:" for name in usable)
    for line in lines:
        assert ": ok: img-" in line
        assert " s, 64 × 64 pixels, " in line
        assert " bytes of image/" in line
        assert line.endswith((" tokens", " credits"))
    assert any(line.startswith("openai: ") and line.endswith(" 4200 tokens") for line in lines)
    for name in usable:
        (entry,) = providers.simulators[name].settled()
        assert entry.prompt == "A red boat"
        assert entry.outcome == "delivered"
    openai, fal = (providers.simulators[name].settled()[0].payload for name in ("openai", "fal"))
    assert (openai["n"], openai["quality"], openai["size"]) == (1, "low", "816x816")
    assert "stream" not in openai
    assert fal["num_images"] == 1
    assert not (providers.data_dir / "mongod").exists()


async def test_a_rejected_key_fails_its_provider_only(
    providers: Providers,
) -> None:
    environ = await providers.serve("fal", "gemini")
    environ["DARKROOM_FAL_KEY"] = "canary-id:canary-secret"

    code, said, complained = await providers.tried(environ=environ)

    assert (code, complained) == (1, "")
    gemini, fal = sorted(said.splitlines(), reverse=True)
    assert gemini.startswith("gemini: ok: ")
    assert fal.startswith(
        "fal: PROVIDER_AUTHENTICATION: This model is not configured correctly. (img-"
    )
    assert fal.endswith("HTTP 401: Invalid Key Authorization credentials)")
    assert "canary" not in said


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "file=html",
            "PROVIDER_BAD_RESPONSE: The provider sent something that is not an image. (img-",
        ),
        ("submit=429", "PROVIDER_RATE_LIMITED: The provider is too busy at the moment. (img-"),
        ("link=http://elsewhere.example/canary.png", "PROVIDER_BAD_RESPONSE: "),
    ],
)
async def test_images_are_validated_as_by_a_worker(
    script: str, expected: str, providers: Providers
) -> None:
    environ = await providers.serve("fal")
    providers.simulators["fal"].play(script)

    code, said, _ = await providers.tried(environ=environ)

    assert code == 1
    assert said.startswith(f"fal: {expected}")
    assert said.count("\n") == 1
    assert "canary" not in said


async def test_neither_keys_nor_urls_are_printed(
    providers: Providers,
) -> None:
    async def refuse(request: Request) -> JSONResponse:
        message = f"{request.headers['authorization']} at https://canary.example/keys?a=b is none."
        return JSONResponse({"error": {"message": message, "code": "invalid_api_key"}}, 401)

    app = Starlette(routes=[Route("/{path:path}", refuse, methods=["POST"])])
    async with serving(app, free_port()) as url:
        environ = settings_of("openai", "sk-canary-canary-canary", f"{url}/v1")

        code, said, complained = await providers.tried(environ=environ)
        verbose = await providers.tried("-v", environ=environ)

    assert (code, complained) == (1, "")
    assert "PROVIDER_AUTHENTICATION" in said
    assert "[…] at […] is none." in said
    assert "canary" not in said
    assert "provider rejects the key" in verbose[2]
    assert "canary-canary" not in "".join(verbose[1:])


async def test_one_provider_can_be_checked_alone_with_progress(
    providers: Providers,
) -> None:
    environ = await providers.serve("fal", "gemini")
    providers.simulators["fal"].play("queue=0.8 position=3")

    code, said, _ = await providers.tried("fal", "-v", environ=environ)

    assert code == 0
    submitting, before, *_, ok = said.splitlines()
    assert submitting == "fal: … submitting"
    assert before == "fal: … 3 jobs before it"
    assert ok.startswith("fal: ok: ")
    assert providers.simulators["gemini"].settled() == []


async def test_a_provider_whose_models_are_all_retired_fails(providers: Providers) -> None:
    assert not has_a_model("wavespeed"), "Try another one: this provider has a model again."

    code, said, _ = await providers.tried(environ=await providers.serve("wavespeed"))

    assert code == 1
    assert said == (
        "wavespeed: MODEL_RETIRED: This model is no longer offered. "
        "(none of the catalogue's is available)\n"
    )
    assert providers.simulators["wavespeed"].settled() == []


async def test_without_any_key_a_message_is_printed(providers: Providers) -> None:
    code, said, complained = await providers.tried(environ={})

    assert (code, said) == (2, "")
    assert complained.startswith("No provider has a key here: set one of DARKROOM_FAL_KEY, ")


async def test_a_provider_without_a_key_is_named_in_a_message(providers: Providers) -> None:
    code, said, complained = await providers.tried(
        "azure", environ=await providers.serve("fal", "gemini")
    )

    assert (code, said) == (2, "")
    assert complained == "No provider called azure has a key here; these have: fal, gemini.\n"
