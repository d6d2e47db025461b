"""Programs that some tests need, and that a machine may not have.

Where one is missing its tests are skipped, and the end of the run names them: nobody takes a part
that was left out for one that passed.
"""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from runtime.local_mongod import find_mongod
from tests.releases import previous_release

ROOT: Final = Path(__file__).parents[1]
GROUPS: Final[dict[str, str]] = {
    "nats-server": "hints through NATS",
    "faketime": "processes whose clocks differ",
    "node": "clients from npm, and the README's walk-through with one",
    "npm": "clients from npm, and the README's walk-through with one",
    "sdks": "the simulators, checked with the providers' official SDKs",
    "ministack": "the object store in a bucket",
    "radosgw": "the object store in a bucket of a Ceph",
    "chromium": "pages in a real browser",
    "studio": "the studio's build and its accessibility",
    "graphiql": "GraphiQL in development",
    "promtool": "alert rules and the queries of the dashboard",
    "caddy": "the proxy of a deployment",
    "image": "the image, built and run",
    "buildah": "the image",
    "debootstrap": "the image",
    "kubectl": "the Kubernetes manifests, rendered",
    "history": "a release beside the one before it",
}
"""What the tests that need a program are about."""
PACKAGES: Final = {
    "promtool": "prometheus",
    "node": "nodejs",
    "radosgw": "ceph-mon ceph-osd radosgw ceph-common",
}
"""What Debian calls a program's packages, where they are not called as the program is."""
ENVIRONMENTS: Final = {"sdks": ".venv/sdks", "ministack": ".venv/s3"}
"""Where what comes as Python packages lives apart: `need` gives the Python that has them."""
MADE: Final = {"studio": "studio/node_modules", "graphiql": "graphiql/build"}
"""What `make` has brought or built, by its target."""

_NEEDS: Final = "needs "
_WHERE_DEBIAN_KEEPS_SERVERS: Final = "/usr/sbin:/usr/local/sbin"


def find_tool(name: str) -> Path | None:
    if name in MADE:
        return ROOT / MADE[name] if (ROOT / MADE[name]).is_dir() else None
    if name == "history":
        return ROOT if previous_release() else None
    if name == "image":
        return ROOT if {"DARKROOM_TEST_KILLS", "DARKROOM_TEST_IMAGE"} & os.environ.keys() else None
    if name in ENVIRONMENTS:
        python = ROOT / ENVIRONMENTS[name] / "bin/python"
        return python if python.exists() else None
    found = shutil.which(name) or shutil.which(name, path=_WHERE_DEBIAN_KEEPS_SERVERS)
    return Path(found) if found else None


def need(name: str) -> Path:
    """Where the program is; without it the test is skipped."""
    assert name in GROUPS
    path = find_tool(name)
    if path is None:
        pytest.skip(_NEEDS + name)
    return path


def need_mongod() -> Path:
    """The mongod that tests start: requirements/dev.txt has one, so they are never left out."""
    binary = find_mongod()
    assert binary is not None, "The tests need a mongod; requirements/dev.txt has one."
    return binary


def left_out(reasons: Iterable[str]) -> Iterator[str]:
    """Tests skipped because a program is missing, in sentences; other skips are not listed."""
    # pytest puts a word of its own before the reason.
    skipped = (reason.removeprefix("Skipped: ") for reason in reasons)
    counts = Counter(reason.removeprefix(_NEEDS) for reason in skipped if reason.startswith(_NEEDS))
    for name, count in sorted(counts.items()):
        tests, they = ("1 test", "It needs") if count == 1 else (f"{count} tests", "They need")
        package = PACKAGES.get(name, name)
        where, how = "on Debian: ", f"apt-get install {package}"
        if name in ENVIRONMENTS:
            where, how = "", f"make {ENVIRONMENTS[name]}/installed"
        if name in MADE:
            where, how = "", f"make {name}"
        if name == "history":
            where, how = "", "git fetch --unshallow --tags"
        if name == "image":
            where, how = "", "DARKROOM_TEST_IMAGE=1, which takes a minute of processor time"
        yield f"Left out: {tests} of {GROUPS.get(name, name)}. {they} {name} ({where}{how})."
