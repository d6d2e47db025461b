"""Each process begins with some of the longest tests, and none is lost."""

from pathlib import Path

import pytest

from tests.order import LONGEST, dealt

ROOT = Path(__file__).parents[1]
IDS = [*(f"tests/a.py::test_{number}" for number in range(50)), *(f"{one}_" for one in LONGEST)]


@pytest.mark.parametrize("processes", [1, 2, 6, 40])
def test_each_process_begins_with_some_of_the_longest_tests(processes: int) -> None:
    ordered = dealt(IDS, IDS, processes=processes)

    assert sorted(ordered) == sorted(IDS)
    begun = 0
    for number in range(processes):  # as pytest-xdist's worksteal gives them out
        size = (len(IDS) - begun) // (processes - number)
        part = [id_.startswith(LONGEST) for id_ in ordered[begun : begun + size]]
        assert part == sorted(part, reverse=True)
        assert any(part) or processes > len(LONGEST)
        begun += size


@pytest.mark.parametrize("prefix", LONGEST)
def test_the_named_tests_exist(prefix: str) -> None:
    path, _, name = prefix.partition("::")
    assert f"def {name}" in (ROOT / path).read_text()
