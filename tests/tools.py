"""Programs that some tests need, and that a machine may not have.

Where one is missing its tests are skipped, and the end of the run names them: nobody takes a part
that was left out for one that passed.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

GROUPS: Final[dict[str, str]] = {
    "nats-server": "the job engine on NATS",
    "faketime": "processes whose clocks differ",
    "curl": "the README's walk-through",
    "node": "the README's walk-through with the graphql-ws client",
    "npm": "the README's walk-through with the graphql-ws client",
    "sdks": "the simulators, checked with the providers' official SDKs",
}
"""What the tests that need a program are about."""
PACKAGES: Final = {"node": "nodejs"}
"""What Debian calls a program's package, where it is not called as the program is."""
SDKS: Final = Path(__file__).parents[1] / ".venv/sdks/bin/python"
"""A Python that has the providers' official SDKs."""

_NEEDS: Final = "needs "
_WHERE_DEBIAN_KEEPS_SERVERS: Final = "/usr/sbin:/usr/local/sbin"


def find_tool(name: str) -> Path | None:
    if name == "sdks":
        return SDKS if SDKS.exists() else None
    found = shutil.which(name) or shutil.which(name, path=_WHERE_DEBIAN_KEEPS_SERVERS)
    return Path(found) if found else None


def need(name: str) -> Path:
    """Where the program is; without it the test is skipped."""
    assert name in GROUPS
    path = find_tool(name)
    if path is None:
        pytest.skip(_NEEDS + name)
    return path


def left_out(reasons: Iterable[str]) -> Iterator[str]:
    """What was skipped for want of a program, in sentences; other skips are nobody's lack."""
    # pytest puts a word of its own before the reason.
    told = (reason.removeprefix("Skipped: ") for reason in reasons)
    counts = Counter(reason.removeprefix(_NEEDS) for reason in told if reason.startswith(_NEEDS))
    for name, count in sorted(counts.items()):
        tests, they = ("1 test", "It needs") if count == 1 else (f"{count} tests", "They need")
        package = PACKAGES.get(name, name)
        how = "make .venv/sdks/installed" if name == "sdks" else f"apt-get install {package}"
        where = "" if name == "sdks" else "on Debian: "
        yield f"Left out: {tests} of {GROUPS.get(name, name)}. {they} {name} ({where}{how})."
