"""What an issuer of tokens costs a process of Darkroom in production."""

from pathlib import Path
from typing import Final

from tests.clients import GraphQLClient
from tests.edge.hostile import an_api
from tests.edge.serve_with_probe import prepare, take_longest
from tests.test_identity_providers import VIEWER, issuing

BLOCKED_SECONDS: Final = 0.03
"""It took 0.06 s before what sends requests was imported at the start."""


async def test_the_first_fetch_of_keys_does_not_block_the_event_loop(
    mongodb_uri: str, tmp_path: Path
) -> None:
    rounds = tmp_path / "rounds"
    prepare(rounds)
    async with issuing() as issuer:
        settings = {
            "DARKROOM_ENVIRONMENT": "production",
            "DARKROOM_TOKEN_ISSUER": issuer.issuer,
            "DARKROOM_SECRET": "s" * 32,
            "DARKROOM_ALLOWED_HOSTS": "127.0.0.1",
            "DARKROOM_LOCAL_MODELS": "true",
            "DARKROOM_TEST_ROUND": str(rounds),
        }
        module = "tests.edge.serve_with_probe"
        async with an_api(mongodb_uri, tmp_path, settings=settings, module=module) as api:
            client = GraphQLClient(api.url, None)
            # The first operation of this kind takes longer than others.
            await client.post({"query": VIEWER})
            await client.aclose()
            take_longest(rounds)
            client = GraphQLClient(api.url, issuer.token({"sub": "ana"}, life=600))
            assert (await client(VIEWER))["viewer"]
            await client.aclose()

    assert issuer.asked
    assert take_longest(rounds).processor_seconds < BLOCKED_SECONDS
