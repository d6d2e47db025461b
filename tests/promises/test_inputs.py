"""No input causes an internal error, and logs and metrics contain no secrets."""

import json
import re
from collections.abc import AsyncIterator
from random import Random
from typing import Final

import pytest

from edge.dev_tokens import DevelopmentIssuer
from tests.clients import GraphQLClient
from tests.edge.hostile import an_api, connection_to
from tests.edge.test_hostile_sockets import FINAL, NO_CODE, TEXT, connect, frame, read_close_code
from tests.http import open_http
from tests.operations import SMALL, START
from tests.promises.figures import count, noticed
from tests.promises.mutations import a_body, some_frames
from tests.resilience.processes import Api
from tests.resilience.scale import SEED
from tests.serving import free_port
from tests.uploads import CREATE

CANARY: Final = "canary-7f3a"
STATUSES: Final = {200, 400, 401, 405, 406, 413, 415}
CLOSES: Final = {1000, 1001, 1002, 1003, NO_CODE, 1007, 1008, 1009, 1013}
CLOSES_OF_GRAPHQL: Final = range(4400, 4430)
CODE: Final = re.compile(r'"code":"[A-Z_]+"')
SENTENCES_OF_LOG: Final = ("Traceback", "internal error", "socket failed", "operation failed")


class Watched:
    def __init__(self, api: Api, token: str, metrics_url: str) -> None:
        self.api, self.token, self.metrics_url = api, token, metrics_url

    def demand_no_fault(self) -> None:
        log = self.api.text_of_log()
        assert not [words for words in SENTENCES_OF_LOG if words in log], log[-2_000:]
        assert self.api.starts == 1


@pytest.fixture(scope="module")
async def watched(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Watched]:
    folder, port = tmp_path_factory.mktemp("inputs"), free_port()
    uri = f"{mongodb_uri}{'&' if '?' in mongodb_uri else '/?'}appName={CANARY}-uri"
    settings = {
        "DARKROOM_METRICS_PORT": str(port),
        "DARKROOM_LOG_LEVEL": "debug",
        # Of a frame that says it is longer than it is, the end never comes.
        "DARKROOM_LIMIT_PING_SECONDS": "1",
        "DARKROOM_LIMIT_PONG_SECONDS": "1",
    }
    async with an_api(uri, folder, settings=settings) as api:
        # The greeting has one of ana's.
        token = DevelopmentIssuer(folder).token("bo")
        yield Watched(api, token, f"http://127.0.0.1:{port}/metrics")


async def test_no_request_body_causes_an_internal_error(watched: Watched) -> None:
    random = Random(f"{SEED} bodies")
    headers = {"content-type": "application/json", "authorization": f"Bearer {watched.token}"}
    async with (
        noticed(watched.api, f"{count(150)} bodies"),
        open_http(base_url=watched.api.url) as http,
    ):
        for _ in range(count(150)):
            body = a_body(random)
            own = headers if random.random() < 0.7 else {"content-type": "application/json"}
            answer = await http.post("/graphql", content=body, headers=own)
            assert answer.status_code in STATUSES, (answer.status_code, body[:500])
            assert "INTERNAL" not in answer.text, (SEED, body[:500])
            if answer.status_code != 200:
                assert CODE.search(answer.text), (answer.text[:500], body[:500])
            elif "errors" in answer.json():
                assert all("code" in one["extensions"] for one in answer.json()["errors"])

    watched.demand_no_fault()


async def test_no_websocket_frame_causes_an_internal_error(watched: Watched) -> None:
    random = Random(f"{SEED} frames")
    init = {"type": "connection_init", "payload": {"authorization": f"Bearer {watched.token}"}}
    async with noticed(watched.api, f"{count(100)} times frames"):
        for _ in range(count(100)):
            async with connection_to(watched.api) as connection:
                await connect(connection)
                if random.random() < 0.8:
                    await connection.send(frame(FINAL | TEXT, json.dumps(init).encode()))
                for _ in range(random.randint(1, 5)):
                    await connection.send(some_frames(random, frame))
                await connection.send(frame(FINAL | 0x8, b"\x03\xe8"))
                code = await read_close_code(connection)
                assert code in CLOSES or code in CLOSES_OF_GRAPHQL, (SEED, code)

    watched.demand_no_fault()


async def test_logs_and_metrics_contain_no_secrets(watched: Watched) -> None:
    client = GraphQLClient(watched.api.url, watched.token)
    given = {"userMessage": f"{CANARY} prompt", "selectedModels": ["local-ink"], "options": SMALL}
    file = {"filename": f"{CANARY}.png", "contentType": "image/png", "byteSize": 10}
    signed = f"{watched.api.url}/objects/images/{CANARY}.webp?expires=1&signature={CANARY}"
    try:
        started = await client.execute(START, input=given)
        assert "errors" not in started
        await client.execute(CREATE, files=[file])
        await client.http.get(signed)
        await client.post({"query": f'{{ {CANARY.replace("-", "_")}(a: "{CANARY}") }}'})
        for token in (f"{CANARY}.{CANARY}.{CANARY}", f"{watched.token[:-5]}{CANARY}"):
            await client.post({"query": "{ viewer { id } }"}, authorization=f"Bearer {token}")
        metrics = (await client.http.get(watched.metrics_url)).text
    finally:
        await client.aclose()

    for text in (watched.api.text_of_log(), metrics):
        assert CANARY not in text
        assert CANARY.replace("-", "_") not in text
        assert watched.token not in text
        assert watched.token.rpartition(".")[2] not in text
