"""The first minute of a new user, with times: clone, `make run`, the link, the first edit in a
browser.

`python -m tests.studio.newcomer` clones this repository into a temporary folder. The packages come
from where pip is set to fetch them.
"""

import asyncio
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from playwright.async_api import async_playwright

from tests.serving import free_port
from tests.studio.conftest import ARGUMENTS
from tests.tools import ROOT, need

LINK: Final = re.compile(r"http://\S+/studio/#token=\S+")
LINK_SECONDS: Final = 300
LANDING_MILLISECONDS: Final = 120_000


class Clock:
    """Says how long each step took, and all together."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()

    def note(self, step: str) -> None:
        now = time.perf_counter()
        sys.stdout.write(f"{step:<40} {now - self._last:6.1f} s {now - self._start:7.1f} s\n")
        self._last = now


async def read_link(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(LINK_SECONDS):
        while line := await process.stdout.readline():
            if found := LINK.search(line.decode()):
                return found[0]
    raise SystemExit("`make run` ended without a link.")


async def edit(link: str, clock: Clock) -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        page = await browser.new_page()
        page.set_default_timeout(LANDING_MILLISECONDS)
        await page.goto(link)
        await page.locator("figure .edit").first.wait_for(state="attached")
        clock.note("the gallery, with sample images")
        await page.locator("figure .edit").first.click(force=True)
        await page.get_by_label("What should change?").fill("Make it night, with a golden frame")
        await page.get_by_role("button", name="Start", exact=True).click()
        await page.locator('[data-status="COMPLETED"] img').first.wait_for()
        clock.note("the first edit has landed")
        await browser.close()


async def main() -> None:
    sys.stdout.write(f"load average {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text) / "darkroom"
        clock = Clock()
        clone = await asyncio.create_subprocess_exec(
            "git", "clone", "--quiet", "--depth", "1", f"file://{ROOT}", folder
        )
        assert await clone.wait() == 0
        clock.note("git clone")
        process = await asyncio.create_subprocess_exec(
            "make",
            "run",
            cwd=folder,
            env={**os.environ, "DARKROOM_PORT": str(free_port())},
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            link = await read_link(process)
            clock.note("make run: installed, started, a link")
            await edit(link, clock)
        finally:
            os.killpg(process.pid, signal.SIGINT)
            await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
