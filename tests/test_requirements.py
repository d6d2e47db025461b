"""The lock files: what an installation gets, and that every part of it is pinned and hashed."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "requirements"
LOCKS = sorted(path.stem for path in FOLDER.glob("*.in"))


def pins(lock: str) -> dict[str, str]:
    """Each package with its versions and markers."""
    lines = re.findall(r"(?m)^([a-z0-9][^=\s]*)==(.*?) \\$", (FOLDER / f"{lock}.txt").read_text())
    return dict(lines)


@pytest.mark.parametrize("lock", LOCKS)
def test_all_requirements_are_hashed_and_name_no_registry(lock: str) -> None:
    text = (FOLDER / f"{lock}.txt").read_text()

    assert pins(lock)
    assert "://" not in text
    for entry in re.split(r"(?m)^(?=[a-z0-9])", text)[1:]:
        assert "--hash=sha256:" in entry, entry


def test_production_has_no_mongod_and_the_same_versions_as_the_tests() -> None:
    assert not [name for name in pins("app") if name.startswith("fiftyone")]
    assert [name for name in pins("mongod") if name.startswith("fiftyone")]

    together = pins("app") | pins("mongod")

    assert together.items() <= pins("dev").items()


def test_an_upgrade_does_not_change_the_minor_version_of_strawberry() -> None:
    assert re.search(
        r"(?m)^strawberry-graphql>=0\.\d+\.\d+,<0\.\d+$", (FOLDER / "app.in").read_text()
    )
