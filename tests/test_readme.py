"""The README's walk-through, word for word."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from tests.conftest import StartDarkroom
from tests.tools import need

ROOT = Path(__file__).parents[1]


def walk_through() -> list[str]:
    """The shell blocks of the section that edits a picture."""
    section = (ROOT / "README.md").read_text().partition("## Edit a picture")[2]
    return re.findall(r"```sh\n(.*?)```", section.partition("\n## ")[0], flags=re.DOTALL)


async def run(script: str, environment: dict[str, str]) -> str:
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-euc",
        script,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize("tools", [("curl",), ("curl", "node", "npm")], ids=["curl", "graphql-ws"])
async def test_the_walk_through_works_word_for_word(
    start_darkroom: StartDarkroom, tools: tuple[str, ...]
) -> None:
    for tool in tools:
        need(tool)
    darkroom = await start_darkroom()
    blocks = [block for block in walk_through() if "node" in tools or "examples" not in block]
    script = "\n".join(blocks).replace("127.0.0.1:8000", darkroom.url.removeprefix("http://"))

    output = await run(
        script,
        {
            "DARKROOM_DATA_DIR": str(darkroom.settings.data_dir),
            "GRAPHQL_URL": darkroom.url.replace("http", "ws") + "/graphql",
        },
    )

    assert '"errors"' not in output
    assert output.count('"userErrors":[]') >= 1
    assert '"title":"Make it night, with a golden frame"' in output
    assert re.search(r'"completeUpload":\{"image":\{"id":"img_', output)
    if "node" in tools:
        assert len(re.findall(r"^turn 0 COMPLETED cursor=", output, flags=re.MULTILINE)) == 1
        assert len(re.findall(r"^turn 1 COMPLETED cursor=", output, flags=re.MULTILINE)) == 1
        assert re.search(r"^  Silver: http://\S+$", output, flags=re.MULTILINE)
        assert re.search(r"^  Ink: http://\S+$", output, flags=re.MULTILINE)
        assert "The provider is not available at the moment." in output
