"""How fast, stable and small the studio is on this machine: `python -m tests.studio.figures`.

It prints the load of the machine too: on a busy one the times say little. `--updates 3600` are as
many live updates as an hour with one in each second.
"""

import argparse
import asyncio
import os
import sys
import time
from typing import Any, Final

from playwright.async_api import CDPSession, Page, async_playwright, expect

from tests.clients import GraphQLClient
from tests.conftest import Darkroom
from tests.operations import RENAME, conversation_with, samples
from tests.studio.conftest import ARGUMENTS
from tests.studio.screenshots import a_darkroom, path_of
from tests.studio.steps import LANDING_MILLISECONDS, wait_until_true
from tests.tools import need

OBSERVE: Final = """
window.shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""
FIRST_VIEW: Final = """() => {
  const kinds = ["navigation", "resource"];
  const all = kinds.flatMap((kind) => performance.getEntriesByType(kind));
  const own = all.filter(({ name }) => /\\/studio\\/(assets\\/|$)/.test(name));
  return own.reduce((sum, { encodedBodySize }) => sum + encodedBodySize, 0);
}"""
FIRST_REQUESTS: Final = "performance.getEntriesByType('resource').length + 1"
FIRST_PAINT: Final = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
PREVIEW: Final = """() => new Promise((resolve) => {
  const started = performance.now();
  document.querySelector(".composer .main").click();
  const look = () => {
    const image = document.querySelector('[data-turn="1"] .output img');
    if (image?.complete && image.naturalWidth) resolve(performance.now() - started);
    else requestAnimationFrame(look);
  };
  look();
})"""
AT_ONCE: Final = 8
"""Updates that are made at the same time: faster than anybody would."""
UPDATES_SECONDS: Final = 300
"""After that no more are made: the figure says how many there were."""
Figures = dict[str, str]


async def first_view(page: Page, darkroom: Darkroom, token: str) -> Figures:
    session = await page.context.new_cdp_session(page)
    # Of the processor, not of the clock: it is the same on a busy machine.
    await session.send("Performance.enable", {"timeDomain": "threadTicks"})
    started = time.perf_counter()
    await page.goto(f"{darkroom.url}/studio/#token={token}")
    await page.locator("figure .edit").first.wait_for(state="attached")
    usable = time.perf_counter() - started
    await wait_until_true(
        page, "[...document.querySelectorAll('figure img')].some((one) => one.naturalWidth)"
    )
    pictured = time.perf_counter() - started
    await page.wait_for_timeout(1_000)
    metrics = (await session.send("Performance.getMetrics"))["metrics"]
    used = {metric["name"]: metric["value"] for metric in metrics}
    return {
        "first view, compressed": f"{await page.evaluate(FIRST_VIEW) / 1000:.1f} KB",
        "requests of the first view": f"{await page.evaluate(FIRST_REQUESTS)}",
        "first paint": f"{await page.evaluate(FIRST_PAINT):.0f} ms",
        "can be used": f"{usable * 1000:.0f} ms",
        "first picture": f"{pictured * 1000:.0f} ms",
        "processor time of the first view": f"{used['TaskDuration'] * 1000:.0f} ms",
        "of it, of scripts": f"{used['ScriptDuration'] * 1000:.0f} ms",
        "layout shift of the gallery": f"{await page.evaluate('window.shift'):.4f}",
    }


async def first_preview(page: Page, darkroom: Darkroom, path: str) -> Figures:
    await page.goto(f"{darkroom.url}/studio/{path}")
    await page.get_by_label("What should change next?").fill("Make it night")
    await page.locator(".composer .main:enabled").wait_for()
    await page.wait_for_timeout(1_000)
    milliseconds = await page.evaluate(PREVIEW)
    await page.locator('[data-turn="1"] [data-status="COMPLETED"]').wait_for()
    await page.wait_for_timeout(1_000)
    return {
        "first preview after sending to a local model": f"{milliseconds:.0f} ms",
        "layout shift while a turn develops": f"{await page.evaluate('window.shift'):.4f}",
    }


async def heap_bytes(session: CDPSession) -> int:
    await session.send("HeapProfiler.collectGarbage")
    usage: dict[str, Any] = await session.send("Runtime.getHeapUsage")
    return int(usage["usedSize"])


async def memory(page: Page, client: GraphQLClient, conversation_id: str, updates: int) -> Figures:
    session = await page.context.new_cdp_session(page)
    before = await heap_bytes(session)
    until = time.perf_counter() + UPDATES_SECONDS
    made = 0
    while made < updates and time.perf_counter() < until:
        names = [f"Title {made + number}" for number in range(min(AT_ONCE, updates - made))]
        renames = [client(RENAME, id=conversation_id, title=name) for name in names]
        made += len(await asyncio.gather(*renames))
    await client(RENAME, id=conversation_id, title="The last title")
    title = page.get_by_label("Title", exact=True)
    await expect(title).to_have_value("The last title", timeout=LANDING_MILLISECONDS)
    after = await heap_bytes(session)
    return {
        "memory of the page": f"{before / 1e6:.1f} MB",
        f"memory after {made + 1:,} live updates": f"{after / 1e6:.1f} MB",
    }


async def main(updates: int) -> None:
    load = os.getloadavg()[0]
    async with a_darkroom() as darkroom, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        client = darkroom.client("ana")
        source = (await samples(client))[0]["id"]
        done = await conversation_with(
            client, selectedModels=["local-ink"], sourceImageId=source, options={}
        )
        page = await browser.new_page(viewport={"width": 1280, "height": 800})
        await page.add_init_script(OBSERVE)
        figures = await first_view(page, darkroom, darkroom.token("ana"))
        figures |= await first_preview(page, darkroom, path_of(done))
        figures |= await memory(page, client, done["conversation"]["id"], updates)
        await browser.close()
    figures["load average"] = f"{load:.1f} before, {os.getloadavg()[0]:.1f} after"
    for name, value in figures.items():
        sys.stdout.write(f"{name:<46} {value}\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=300, help="live updates to receive")
    asyncio.run(main(parser.parse_args().updates))
