"""What Lighthouse says about the studio: `python -m tests.studio.lighthouse`.

Scores of 0 to 100 for views on a phone and a desktop, and every audit that failed: of several
runs the one with the median performance, as Lighthouse's authors recommend. It needs Node and
Chromium. Lighthouse measures by the clock, and whatever else runs on the machine counts: the load
is printed beside each line. `--only conversation --runs 5`: one view, more often.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from tests.conftest import Darkroom
from tests.packages import install_packages
from tests.studio.screenshots import a_darkroom, build, path_of
from tests.tools import ROOT, need

CATEGORIES: Final = ("performance", "accessibility", "best-practices")
FORMS: Final[dict[str, list[str]]] = {"phone": [], "desktop": ["--preset=desktop"]}
TIMES: Final = ("largest-contentful-paint", "total-blocking-time", "cumulative-layout-shift")
AUDIT_SECONDS: Final = 300
INSTALL_SECONDS: Final = 600
NOT_FOR_LIVE_PAGES: Final = "bf-cache"
"""A page with a WebSocket is never kept by the browser."""


async def audit(folder: Path, url: str, form: str) -> dict[str, Any]:
    report = folder / "report.json"
    process = await asyncio.create_subprocess_exec(
        need("node"),
        "node_modules/lighthouse/cli/index.js",
        url,
        "--quiet",
        "--output=json",
        f"--output-path={report}",
        f"--only-categories={','.join(CATEGORIES)}",
        "--chrome-flags=--headless --no-sandbox --disable-gpu",
        *FORMS[form],
        cwd=folder,
        env={**os.environ, "CHROME_PATH": os.fspath(need("chromium"))},
    )
    async with asyncio.timeout(AUDIT_SECONDS):
        assert await process.wait() == 0
    result: dict[str, Any] = json.loads(report.read_text())
    return result


def describe(report: dict[str, Any]) -> list[str]:
    scores = {name: report["categories"][name]["score"] for name in CATEGORIES}
    times = [report["audits"][name].get("displayValue", "") for name in TIMES]
    failed = [
        f"  {one['id']}: {one['title']}"
        for one in report["audits"].values()
        if one["scoreDisplayMode"] == "binary"
        and one["score"] == 0
        and one["id"] != NOT_FOR_LIVE_PAGES
    ]
    said = [f"{name} {round((score or 0) * 100)}" for name, score in scores.items()]
    return [", ".join([*said, *times, f"load {os.getloadavg()[0]:.1f}"]), *failed]


async def views(darkroom: Darkroom) -> dict[str, str]:
    world = await build(darkroom)
    signed_in = f"#token={darkroom.token('ana')}"
    return {
        "sign-in": "",
        "gallery": signed_in,
        "conversation": path_of(world.done) + signed_in,
        "post": world.post + signed_in,
        "shared": world.share,
    }


async def audit_often(folder: Path, url: str, form: str, runs: int) -> dict[str, Any]:
    reports = [await audit(folder, url, form) for _ in range(runs)]
    reports.sort(key=lambda report: float(report["categories"]["performance"]["score"] or 0))
    return reports[runs // 2]


async def main(only: str, runs: int) -> None:
    with tempfile.TemporaryDirectory() as text:
        folder = install_packages(
            ROOT / "tests/npm/lighthouse", Path(text), limit_seconds=INSTALL_SECONDS
        )
        async with a_darkroom() as darkroom:
            for name, path in (await views(darkroom)).items():
                for form in FORMS if only in name else ():
                    url = f"{darkroom.url}/studio/{path}"
                    first, *rest = describe(await audit_often(folder, url, form, runs))
                    sys.stdout.write(f"{name:<13}{form:<9}{first}\n")
                    sys.stdout.writelines(f"{line}\n" for line in rest)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names of views")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    asyncio.run(main(given.only, given.runs))
