"""The committed build is what its sources make, and small; its documents fit the schema."""

import filecmp
import re
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest
from graphql import build_schema, parse, validate

from tests.tools import need

ROOT = Path(__file__).parents[2]
STUDIO = ROOT / "studio"
BUILD = STUDIO / "build"
FIRST_VIEW_BYTES = 60_000
DOCUMENT = re.compile(r"graphql\(\s*`([^`]*)`")


def test_the_build_is_made_of_the_sources_that_are_here() -> None:
    lines = (BUILD / "sources.sha256").read_text().splitlines()
    recorded = {path: digest for digest, _, path in (line.partition("  ") for line in lines)}
    below = [
        path.relative_to(STUDIO).as_posix()
        for folder in ("src", "public")
        for path in (STUDIO / folder).rglob("*")
        if path.is_file() and path.name != "schema.d.ts"
    ]

    assert set(below) <= recorded.keys()
    assert recorded == {
        path: sha256((STUDIO / path).read_bytes()).hexdigest() for path in recorded
    }, "Run `make studio`."


def test_a_build_of_the_sources_is_the_committed_one(tmp_path: Path) -> None:
    need("node")
    if not (STUDIO / "node_modules").is_dir():
        pytest.skip("the studio's packages are not installed: make studio")

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


def test_compressed_copies_are_of_the_files_beside_them() -> None:
    node = need("node")
    script = (
        "process.stdout.write(require('zlib').brotliDecompressSync(require('fs').readFileSync(0)))"
    )
    for path in BUILD.rglob("*.br"):
        with path.open("rb") as file:
            unpacked = subprocess.run(
                [node, "-e", script], stdin=file, capture_output=True, check=True, timeout=30
            )
        assert unpacked.stdout == path.with_suffix("").read_bytes()


def test_the_first_view_is_small() -> None:
    page = (BUILD / "index.html").read_text()
    names = re.findall(r'(?:src|href)="/studio/(assets/[^"]+)"', page)

    sizes = [(BUILD / f"{name}.br").stat().st_size for name in names]

    assert names
    assert sum(sizes) + len(page) <= FIRST_VIEW_BYTES


def test_the_documents_fit_the_schema() -> None:
    schema = build_schema((ROOT / "schema.graphql").read_text())
    text = (STUDIO / "src/api/documents.ts").read_text()

    document = parse("\n".join(DOCUMENT.findall(text)))

    assert len(document.definitions) > 20
    assert validate(schema, document) == []


def test_no_address_of_a_registry_is_kept() -> None:
    lock = (STUDIO / "package-lock.json").read_text()

    assert '"resolved"' not in lock
    assert "omit-lockfile-registry-resolved=true" in (STUDIO / ".npmrc").read_text()


def test_versions_are_exact() -> None:
    text = (STUDIO / "package.json").read_text()
    versions = re.findall(r'"[@\w/.-]+": "([^"]*\d\.\d[^"]*)"', text.partition('"dependencies"')[2])

    assert len(versions) >= 10
    assert [version for version in versions if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
