"""The walk-through of the README, unchanged, and its documents against the schema."""

import asyncio
import os
import re
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from tests.conftest import StartDarkroom
from tests.tools import need

ROOT = Path(__file__).parents[1]
DOCUMENTS = ROOT / "examples" / "documents"


def walk_through() -> list[str]:
    """The shell blocks of the section "Edit an image"."""
    section = (ROOT / "README.md").read_text().partition("## Edit an image")[2]
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
    async with asyncio.timeout(240):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize("tools", [(), ("node", "npm")], ids=["python", "graphql-ws"])
async def test_the_walk_through_works_as_written(
    start_darkroom: StartDarkroom, tools: tuple[str, ...]
) -> None:
    for tool in tools:
        need(tool)
    darkroom = await start_darkroom()
    blocks = [block for block in walk_through() if tools or "node " not in block]

    output = await run(
        "\n".join(blocks),
        {
            "DARKROOM_DATA_DIR": str(darkroom.settings.data_dir),
            "GRAPHQL_URL": f"{darkroom.url}/graphql",
        },
    )

    assert "Started “Make it night, with a golden frame” from img_" in output
    assert len(re.findall(r"^  img_\w+  PREVIOUS_TURN$", output, flags=re.MULTILINE)) >= 1
    assert re.search(r"^Make it night, with a golden frame: [A-Z]+$", output, flags=re.MULTILINE)
    assert re.search(r"^img_\w+  \d+ × \d+ pixels$", output, flags=re.MULTILINE)
    assert re.search(r"^post_\w+ is being written\.$", output, flags=re.MULTILINE)
    assert "Our new lavender soap, made by two sisters." in output
    assert re.search(r"^2/2 (?:Silver|Ink): http://\S+\nGENERATED$", output, flags=re.MULTILINE)
    if tools:
        assert re.search(r"^turn 0 COMPLETED$", output, flags=re.MULTILINE)
        assert len(re.findall(r"^turn 1 COMPLETED$", output, flags=re.MULTILINE)) == 1
        assert re.search(r"^  Silver: http://\S+$", output, flags=re.MULTILINE)
        assert re.search(r"^  Ink: http://\S+$", output, flags=re.MULTILINE)
        assert "The provider is not available at the moment." in output


@pytest.mark.parametrize("path", sorted(DOCUMENTS.glob("*.graphql")), ids=lambda path: path.stem)
def test_example_documents_are_valid(path: Path) -> None:
    schema = build_schema((ROOT / "schema.graphql").read_text())

    assert validate(schema, parse(path.read_text())) == []


def test_links_in_documents_exist() -> None:
    broken = [
        (document.name, target)
        for document in [
            ROOT / "README.md",
            ROOT / "CONTRIBUTING.md",
            *(ROOT / "docs").glob("*.md"),
        ]
        for target in re.findall(r"\]\(([^)]+)\)", document.read_text())
        if not target.startswith(("http://", "https://"))
        if not leads_somewhere(document, target)
    ]

    assert broken == []


def leads_somewhere(document: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = document.parent / name if name else document
    return path.exists() and (not anchor or anchor in anchors_of(path.read_text()))


def anchors_of(text: str) -> set[str]:
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ["architecture", "data-model"])
def test_files_named_in_documents_exist(name: str) -> None:
    text = (ROOT / "docs" / f"{name}.md").read_text()
    named = set(re.findall(r"`((?:\w+/)*\w+\.(?:py|toml|graphql))`", text))
    modules = {path.name for path in (ROOT / "domain").rglob("*.py")}
    modules |= {path.name for folder in ROOT.glob("[a-z]*") for path in folder.glob("*.py")}

    assert named, "It names files."
    assert [path for path in named - modules if not (ROOT / path).exists()] == []
