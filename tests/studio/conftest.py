"""A real browser on the studio that a real Darkroom serves."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.conftest import Darkroom
from tests.tools import need

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-software-rasterizer",
    "--disable-gpu-rasterization",
    "--disable-extensions",
    "--disable-default-apps",
    "--disable-breakpad",
    "--mute-audio",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MILLISECONDS = 30_000
expect.set_options(timeout=PATIENCE_MILLISECONDS)
CUT = re.compile(r"net::ERR_|WebSocket connection to")
"""What Chromium itself writes to the console when a connection is lost."""


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=need("chromium"), args=ARGUMENTS)
        yield browser
        await browser.close()


OpenStudio = Callable[..., Awaitable[Page]]
"""Opens a view as a viewer, in a browser of their own unless `beside` another page."""


@pytest.fixture
async def open_studio(browser: Browser) -> AsyncIterator[OpenStudio]:
    """At the end every console must be empty, and no error may have been raised."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    async def open_view(
        darkroom: Darkroom,
        viewer: str | None = "ana",
        *,
        path: str = "",
        token: str | None = None,
        beside: Page | None = None,
        width: int = 1280,
        height: int = 800,
        foreseen: re.Pattern[str] = CUT,
        **options: Any,
    ) -> Page:
        if beside is None:
            options = {"locale": "en-US", "reduced_motion": "reduce", **options}
            size = {"width": width, "height": height}
            context = await browser.new_context(viewport=size, **options)  # type: ignore[arg-type]
            context.set_default_timeout(PATIENCE_MILLISECONDS)
            contexts.append(context)
        else:
            context = beside.context
        page = await context.new_page()
        page.on(
            "console",
            lambda message: (
                complaints.append(message.text)
                if message.type in ("error", "warning") and not foreseen.search(message.text)
                else None
            ),
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        if token is None and viewer is not None:
            token = darkroom.token(viewer)
        fragment = f"#token={token}" if token else ""
        await page.goto(f"{darkroom.url}/studio/{path}{fragment}")
        return page

    yield open_view
    for context in contexts:
        await context.close()
    assert complaints == []


@pytest.fixture
def viewer() -> str:
    return f"viewer {uuid4().hex}"


async def find_barriers(page: Page) -> list[str]:
    """What axe-core finds that is serious or worse, in the state that the page is in."""
    await page.evaluate((need("studio") / "axe-core/axe.min.js").read_text())
    found = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
