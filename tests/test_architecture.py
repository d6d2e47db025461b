"""docs/architecture.md sends a newcomer to files and functions: they have to be there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "architecture.md").read_text()
STUDIO = ROOT / "studio" / "src"
FILE = r"[\w./-]+\.(?:py|toml|ts|svelte|graphql)"
PLACED = re.compile(rf"`(\w+)` (?:in|of) `({FILE})`")


def named_files() -> list[str]:
    """The files that are named by their path."""
    return sorted({name for name in re.findall(rf"`({FILE})`", GUIDE) if "/" in name})


def find(name: str) -> Path | None:
    return next((path for root in (ROOT, STUDIO) if (path := root / name).is_file()), None)


def has(file: str, name: str) -> bool:
    path = find(file)
    return path is not None and re.search(rf"\b{name}\b", path.read_text()) is not None


def test_every_file_that_the_guide_names_exists() -> None:
    names = named_files()

    assert len(names) > 100, "The guide names files by their path."
    assert [name for name in names if find(name) is None] == []


def test_what_the_guide_places_in_a_file_is_there() -> None:
    placed = {(name, file) for name, file in PLACED.findall(GUIDE) if "/" in file}

    assert len(placed) > 30, "The guide says what is in which file."
    assert sorted((name, file) for name, file in placed if not has(file, name)) == []
