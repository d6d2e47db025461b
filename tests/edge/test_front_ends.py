"""The files of docs/front-ends.md, unchanged, run against a real server."""

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Final

import pytest

from tests.clients import GraphQLClient
from tests.tools import need
from tests.waits import PATIENCE_SECONDS

GUIDE: Final = Path(__file__).parents[2] / "docs/front-ends.md"
FILE: Final = re.compile(r"^```js (\S+\.js)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def guide(clients: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the guide, and the packages that they import."""
    folder = tmp_path_factory.mktemp("guide")
    (folder / "node_modules").symlink_to(clients / "node_modules")
    shutil.copy(clients / "package.json", folder)
    for name, text in FILE.findall(GUIDE.read_text()):
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("library", ["urql", "apollo", "relay"])
async def test_the_examples_of_the_guide_work(
    guide: Path, client: GraphQLClient, library: str
) -> None:
    node = await asyncio.create_subprocess_exec(
        need("node"),
        "--no-warnings",
        "--experimental-websocket",
        "walk.js",
        *(library, f"{client.url}/graphql", client.token or ""),
        cwd=guide,
        env={"PATH": os.environ["PATH"]},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(3 * PATIENCE_SECONDS):
        output, errors = await node.communicate()

    assert (node.returncode, errors.decode()) == (0, "")
    statuses = output.decode().split()
    assert statuses[-1] == "COMPLETED"
    assert set(statuses) <= {"PENDING", "GENERATING", "COMPLETED"}
