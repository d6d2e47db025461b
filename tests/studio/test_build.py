"""The committed build is that of its sources, and small; its operations fit the schema."""

import filecmp
import json
import os
import re
import subprocess
from hashlib import sha256
from pathlib import Path

from graphql import FragmentDefinitionNode, build_schema, parse, validate

from tests.tools import need

ROOT = Path(__file__).parents[2]
STUDIO = ROOT / "studio"
BUILD = STUDIO / "build"
FIRST_VIEW_BYTES = 60_000
OPERATIONS = ROOT / "clients/operations"


def test_the_build_is_up_to_date_with_the_sources() -> None:
    lines = (BUILD / "sources.sha256").read_text().splitlines()
    recorded = {path: digest for digest, _, path in (line.partition("  ") for line in lines)}
    below = [
        Path(os.path.relpath(path, STUDIO)).as_posix()
        for folder in (STUDIO / "src", STUDIO / "public", OPERATIONS / "generated")
        for path in folder.rglob("*")
        if path.is_file()
    ]

    assert set(below) <= recorded.keys()
    assert recorded == {
        path: sha256((STUDIO / path).read_bytes()).hexdigest() for path in recorded
    }, "Run `make studio`."


def test_a_new_build_equals_the_committed_one(tmp_path: Path) -> None:
    need("node")
    need("studio")

    subprocess.run(
        [
            "node",
            "node_modules/vite/bin/vite.js",
            "build",
            "--outDir",
            tmp_path,
            "--logLevel",
            "error",
        ],
        cwd=STUDIO,
        check=True,
        timeout=120,
    )

    # Compressed copies depend on the version of Node.
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.suffix != ".br"}
    committed = {path.relative_to(BUILD) for path in BUILD.rglob("*") if path.suffix != ".br"}
    assert made == committed
    files = [str(path) for path in made if (tmp_path / path).is_file()]
    assert filecmp.cmpfiles(tmp_path, BUILD, files, shallow=False)[1:] == ([], [])


UNPACK = """
const { readFileSync } = require("fs");
const { brotliDecompressSync } = require("zlib");
const differ = process.argv.slice(1).filter(
  (path) => !brotliDecompressSync(readFileSync(path)).equals(readFileSync(path.slice(0, -3)))
);
process.stdout.write(JSON.stringify(differ));
"""


def test_compressed_copies_are_those_of_their_files() -> None:
    copies = [os.fspath(path) for path in BUILD.rglob("*.br")]

    # One process for all: to start one for each takes nearly all of the time.
    result = subprocess.run(
        [need("node"), "-e", UNPACK, *copies], capture_output=True, check=True, timeout=30
    )

    assert copies
    assert json.loads(result.stdout) == []


def test_the_first_view_is_small() -> None:
    page = (BUILD / "index.html").read_text()
    names = re.findall(r'(?:src|href)="/studio/(assets/[^"]+)"', page)

    sizes = [(BUILD / f"{name}.br").stat().st_size for name in names]

    assert names
    assert sum(sizes) + len(page) <= FIRST_VIEW_BYTES


def test_the_operations_are_valid_for_the_schema() -> None:
    schema = build_schema((ROOT / "schema.graphql").read_text())

    document = parse("\n".join(path.read_text() for path in sorted(OPERATIONS.glob("*.graphql"))))

    names = [node.name.value for node in document.definitions]  # type: ignore[attr-defined]
    fragments = [node for node in document.definitions if isinstance(node, FragmentDefinitionNode)]
    assert len(names) - len(fragments) > 20
    assert len(names) == len(set(names))
    assert validate(schema, document) == []


def test_types_and_messages_are_generated_from_the_operations(tmp_path: Path) -> None:
    node = need("node")
    need("studio")
    generated = OPERATIONS / "generated"

    subprocess.run([node, "generate-operations.js", tmp_path], cwd=STUDIO, check=True, timeout=120)

    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == sorted(path.name for path in generated.iterdir())
    assert filecmp.cmpfiles(tmp_path, generated, made, shallow=False)[1:] == ([], [])


def test_no_registry_url_is_committed() -> None:
    lock = (STUDIO / "package-lock.json").read_text()

    assert '"resolved"' not in lock
    assert "omit-lockfile-registry-resolved=true" in (STUDIO / ".npmrc").read_text()


def test_versions_are_exact() -> None:
    text = (STUDIO / "package.json").read_text()
    versions = re.findall(r'"[@\w/.-]+": "([^"]*\d\.\d[^"]*)"', text.partition('"dependencies"')[2])

    assert len(versions) >= 10
    assert [version for version in versions if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
