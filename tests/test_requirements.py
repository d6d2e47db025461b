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
def test_everything_is_hashed_and_no_registry_is_named(lock: str) -> None:
    text = (FOLDER / f"{lock}.txt").read_text()

    assert pins(lock)
    assert "://" not in text
    for entry in re.split(r"(?m)^(?=[a-z0-9])", text)[1:]:
        assert "--hash=sha256:" in entry, entry


def test_production_gets_no_mongod_and_tests_get_the_same_versions() -> None:
    assert not [name for name in pins("app") if name.startswith("fiftyone")]
    assert [name for name in pins("mongod") if name.startswith("fiftyone")]

    together = pins("app") | pins("mongod")

    assert together.items() <= pins("dev").items()


def test_a_minor_version_of_strawberry_is_not_taken_by_an_upgrade() -> None:
    assert re.search(
        r"(?m)^strawberry-graphql>=0\.\d+\.\d+,<0\.\d+$", (FOLDER / "app.in").read_text()
    )
