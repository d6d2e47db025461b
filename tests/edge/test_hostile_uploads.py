"""What uploads cost a process: its memory, and the time of its event loop."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import httpx2
import pytest

from domain.export_format import FORMAT, VERSION
from edge.dev_tokens import DevelopmentIssuer
from tests.api.jobs import ARCHIVE, IMPORT
from tests.clients import Data, GraphQLClient
from tests.edge.hostile import an_api
from tests.edge.serve_with_probe import prepare, take_longest
from tests.http import open_http
from tests.memory import MemoryGrowth
from tests.resilience.processes import Api
from tests.uploads import begin_form, create, declared, fields_of, sent
from tests.waits import PATIENCE_SECONDS

FILE_BYTES: Final = 5_000_000
FORMS: Final = 12
BYTES_PER_FORM: Final = 2_000_000
"""It took 20 MB before its file was stored as it arrived, and takes 0.5 MB now."""
BLOCKED_SECONDS: Final = 0.03
"""It took 0.8 s before a form was parsed in small pieces, and takes 0.005 s now."""
PARTS: Final = 4_000
SHARE: Final = 0.5
"""It was nearly 1 before the reader paused, and is 0.25 now."""


class Measured(NamedTuple):
    api: Api
    folder: Path
    rounds: Path

    def client(self, viewer: str) -> GraphQLClient:
        return GraphQLClient(self.api.url, DevelopmentIssuer(self.folder).token(viewer))


@pytest.fixture(scope="module")
async def measured(
    mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Measured]:
    folder = tmp_path_factory.mktemp("api")
    rounds = folder / "rounds"
    prepare(rounds)
    settings = {"DARKROOM_TEST_ROUND": str(rounds)}
    module = "tests.edge.serve_with_probe"
    async with an_api(mongodb_uri, folder, settings=settings, module=module) as api:
        yield Measured(api, folder, rounds)


async def sent_form(
    http: httpx2.AsyncClient, upload: Data, data: bytes, last: asyncio.Barrier
) -> int:
    """Send the form, its last bytes when all others have come so far. Return the status."""
    body = begin_form(fields_of(upload)) + data + b"\r\n--x--\r\n"

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(body) - 100, 65_536):
            yield body[start : min(start + 65_536, len(body) - 100)]
        await last.wait()
        yield body[-100:]

    headers = {
        "content-type": "multipart/form-data; boundary=x",
        "content-length": str(len(body)),
    }
    answer = await http.post(upload["url"], headers=headers, content=parts())
    return answer.status_code


async def send_forms(measured: Measured, data: bytes, *, count: int) -> list[int]:
    client = measured.client("forms")
    uploads = await create(client, *[declared(data, method="POST") for _ in range(count)])
    last = asyncio.Barrier(count)
    await client.aclose()
    async with open_http(timeout=PATIENCE_SECONDS) as http:
        return await asyncio.gather(*(sent_form(http, upload, data, last) for upload in uploads))


async def test_a_form_is_not_held_in_memory(measured: Measured) -> None:
    await send_forms(measured, bytes(FILE_BYTES), count=1)
    growth = MemoryGrowth(measured.api.pid)

    statuses = await send_forms(measured, bytes(FILE_BYTES), count=FORMS)

    assert statuses == [204] * FORMS
    assert growth.peak < FORMS * BYTES_PER_FORM


async def test_a_form_full_of_delimiters_does_not_block_the_event_loop(measured: Measured) -> None:
    data = b"\r\n--x\ra" * (FILE_BYTES // 7)
    await send_forms(measured, data[:700], count=1)
    take_longest(measured.rounds)

    statuses = await send_forms(measured, data, count=1)

    assert statuses == [204]
    assert take_longest(measured.rounds).processor_seconds < BLOCKED_SECONDS


def tiny_parts() -> bytes:
    names = [f"images/part-{number:05d}.json" for number in range(PARTS)]
    manifest = {"format": FORMAT, "version": VERSION, "conversations": [], "images": names}
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        for name in names:
            archive.writestr(name, '{"images":[]}')
    return written.getvalue()


class Threads:
    """What the threads of a process have got of the processor, and what they have waited for it,
    in nanoseconds.
    """

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}/task")
        self._main = str(pid)
        self._before = self._read()

    def busiest_share(self, seconds: float) -> float:
        """Of the time in which it could run, the share that the busiest thread ran in these
        seconds, without the event loop's.
        """
        after = self._read()
        del after[self._main]
        ran, waited = max(
            (ran - before[0], waited - before[1])
            for name, (ran, waited) in after.items()
            for before in [self._before.get(name, (0, 0))]
        )
        return ran / (seconds * 1e9 - waited)

    def _read(self) -> dict[str, tuple[int, int]]:
        found = {}
        for task in self._folder.iterdir():
            ran, waited, _ = (task / "schedstat").read_text().split()
            found[task.name] = (int(ran), int(waited))
        return found


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="Needs Linux")
async def test_an_import_of_many_tiny_parts_leaves_the_interpreter_to_the_event_loop(
    measured: Measured,
) -> None:
    assert measured.api.pid is not None
    client = measured.client("imports")
    upload = await sent(client, tiny_parts(), ARCHIVE, purpose="IMPORT")
    threads, loop = Threads(measured.api.pid), asyncio.get_running_loop()
    began = loop.time()

    async with asyncio.timeout(PATIENCE_SECONDS):
        payload = (await client(IMPORT, id=upload["id"]))["importConversation"]
    share = threads.busiest_share(loop.time() - began)
    await client.aclose()

    assert payload["userErrors"] == []
    assert share < SHARE
