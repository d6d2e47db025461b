"""What a page survives: a suspended phone, a lost network, an overloaded server.

Each time the page says so, marks exactly what ended meanwhile, and keeps what was typed.
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime

import pytest
from playwright.async_api import FilePayload, Locator, Page, Response, Route, expect

from tests.api.test_albums import create
from tests.clients import GraphQLClient
from tests.conftest import Darkroom
from tests.operations import RENAME, conversation_with, send, until_finished
from tests.serving import free_port
from tests.studio.conftest import OpenStudio
from tests.studio.steps import outputs, path_of, wait_for, wait_until_true
from tests.uploads import a_picture
from tests.waits import eventually

PLACE = "What should change next?"
FIELDS = {
    "Gallery": "Search pictures",
    "Conversations": "Search conversations",
    "Albums": "Name of the album",
}
"""Fields to type into, by the link to their view."""
RETRY_SECONDS = 30
READING_SECONDS = 60
GO = """path => {
  history.pushState(null, "", path);
  dispatchEvent(new PopStateEvent("popstate"));
}"""
MOST_ATTEMPTS = 3
"""How often a file of an image is asked for."""
CLOSING_SECONDS = 5
NOTICED_MILLISECONDS = 40_000
"""A dead socket is noticed by a ping that is not answered."""
BLOCKED = """
for (const name of ["localStorage", "sessionStorage"])
  Object.defineProperty(window, name, { get() { throw new DOMException(name, "SecurityError"); } });
"""


class Relay:
    """Forwards connections. It can stop to, without closing one: their ends notice nothing."""

    def __init__(self, url: str) -> None:
        self._target = int(url.rpartition(":")[2])
        self._flowing: list[asyncio.Event] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._connections: list[asyncio.Task[None]] = []
        self.port = free_port()

    def freeze(self) -> None:
        """Existing connections pass nothing on. New connections work."""
        for flowing in self._flowing:
            flowing.clear()

    async def close(self) -> None:
        """End all connections, frozen ones too: what is left open fails a later test."""
        for flowing in self._flowing:
            flowing.set()
        for writer in self._writers:
            writer.close()
        async with asyncio.timeout(CLOSING_SECONDS):
            await asyncio.gather(*self._connections)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.append(asyncio.create_task(self._connect(reader, writer)))

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        flowing = asyncio.Event()
        flowing.set()
        self._flowing.append(flowing)
        self._writers += [writer, back]
        await asyncio.gather(_forward(reader, back, flowing), _forward(there, writer, flowing))


async def _forward(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event
) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            await flowing.wait()
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture
async def relay(darkroom: Darkroom) -> AsyncIterator[Relay]:
    relay = Relay(darkroom.url)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", relay.port)
    yield relay
    server.close()
    await relay.close()


async def test_a_phone_that_was_suspended_shows_exactly_what_it_missed(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio, relay: Relay
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink"])
    async with AsyncExitStack() as stack:
        through_relay = Darkroom(f"http://127.0.0.1:{relay.port}", darkroom.settings, stack)
        page = await open_studio(through_relay, token=client.token, path=path_of(done))
        await wait_for(page, 0, "COMPLETED")
        await page.get_by_label(PLACE).fill("And a moon")

        relay.freeze()
        sent = await send(client, done["conversation"]["id"], selectedModels=["local-silver"])
        await until_finished(client, sent["turn"])
        missed = page.locator(outputs(page, 1, "COMPLETED", "local-silver"))
        await expect(missed).to_be_visible(timeout=NOTICED_MILLISECONDS)

        await expect(page.locator(".toasts li")).to_contain_text("While you were away, 1 output")
        mark = page.get_by_text("New", exact=True)
        await expect(mark).to_have_count(1)
        await expect(missed).to_contain_text("New")
        await missed.hover()
        await expect(mark).to_have_count(0)
        await expect(page.get_by_label(PLACE)).to_have_value("And a moon")


async def test_a_turn_sent_while_offline_arrives_once(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink"])
    page = await open_studio(darkroom, None)
    await page.route("**/objects/**", lambda route: route.abort())
    await page.goto(f"{darkroom.url}/studio/{path_of(done)}#token={client.token}")
    await page.get_by_label(PLACE).fill("And a moon")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    image = page.locator(f"{outputs(page, 0, 'COMPLETED')} .picture img")
    await expect(image).to_have_count(1)

    await page.context.set_offline(True)
    await page.unroute_all(behavior="wait")
    await expect(page.get_by_text("You are offline.")).to_be_visible()
    await page.get_by_label(PLACE).press("Control+Enter")
    await expect(page.get_by_role("button", name="Sending")).to_be_visible()
    await page.get_by_label(PLACE).press_sequentially(" Then fog")
    await page.context.set_offline(False)

    await wait_for(page, 1, "COMPLETED")
    await expect(page.get_by_text("2 turns")).to_be_visible()
    await expect(page.get_by_label(PLACE)).to_have_value("Then fog")
    # Its URL is the same as when it could not be loaded.
    await expect(image.and_(page.locator(".loaded"))).to_be_visible()


async def refuse(route: Route) -> None:
    extensions = {"code": "OVERLOADED", "retryAfterSeconds": RETRY_SECONDS}
    await route.fulfill(status=503, json={"errors": [{"message": "", "extensions": extensions}]})


async def pass_time_until(page: Page, wanted: Locator, *, visible: bool = True) -> None:
    async with asyncio.timeout(READING_SECONDS):
        while await wanted.is_visible() != visible:
            await page.clock.fast_forward(RETRY_SECONDS * 1000)
            # By the hour its token is still valid.
            await page.clock.set_system_time(datetime.now(UTC))
            await asyncio.sleep(0.05)


async def test_a_view_that_an_overloaded_server_refused_is_read_again(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    """Without a click. No live update helps: its socket never opens."""
    made = await conversation_with(client, selectedModels=["rehearsal-fails"])
    album = (await create(client, "Boats"))["album"]
    views = {
        "": "figure",
        "conversations": "main li",
        path_of(made): '[data-turn="0"]',
        "posts": "text=No posts yet",
        "albums": "main li",
        f"albums/{album['id']}": "main input",
        "statistics": "tbody tr",
        "deleted": "text=There is nothing at this address",
        "shared/none": "main h1",
    }
    page = await open_studio(darkroom, None, foreseen=re.compile("503"))
    await page.clock.install()
    await page.route_web_socket("**/graphql", lambda _: None)
    await page.goto(f"{darkroom.url}/studio/posts#token={client.token}")
    # Each part of a view that could not be read says so.
    again = page.get_by_role("status").get_by_role("button", name="Try again").first

    for path, content in views.items():
        await page.route("**/graphql", refuse)
        await page.evaluate(GO, f"/studio/{path}")
        await pass_time_until(page, again)
        await page.unroute("**/graphql")
        await pass_time_until(page, page.locator(content).first)
        # Something else of the page may have been refused last, and pauses for as long once more.
        await pass_time_until(page, again, visible=False)


async def test_nothing_typed_is_lost_by_a_reload(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    """What is written in forms for turns and posts is covered where those are sent."""
    done = await conversation_with(client, selectedModels=["local-ink"])
    page = await open_studio(darkroom, None, path=path_of(done), token=client.token)
    title = page.get_by_label("Title", exact=True)
    await title.fill("A calm ni")
    await page.reload()
    await expect(title).to_have_value("A calm ni")
    await expect(title).to_be_focused()
    await title.press_sequentially("ght")
    await title.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("A calm night")

    for link, label in FIELDS.items():
        await page.get_by_role("link", name=link, exact=True).click()
        await page.get_by_label(label).fill("night")
    for link, label in FIELDS.items():
        await page.get_by_role("link", name=link, exact=True).click()
        await page.reload()
        await expect(page.get_by_label(label)).to_have_value("night")


async def test_a_saved_title_is_not_written_again_over_a_newer_one(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    done = await conversation_with(client, selectedModels=["local-ink"])
    page = await open_studio(darkroom, None, path=path_of(done), token=client.token)
    title = page.get_by_label("Title", exact=True)
    await title.fill("A calm night")
    async with page.expect_response(_is_renaming):
        # Saved when the field is left, by then in another view.
        await page.get_by_role("link", name="Gallery", exact=True).click()
    await client(RENAME, id=done["conversation"]["id"], title="A storm")

    await page.goto(f"{darkroom.url}/studio/{path_of(done)}")

    await expect(title).to_have_value("A storm")
    await expect(title).not_to_be_focused()


@pytest.mark.parametrize("missing", ["small", "original"])
async def test_one_file_of_an_image_is_shown_if_the_other_cannot_be_read(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio, missing: str
) -> None:
    width = 1400
    asked: Counter[str] = Counter()
    page = await open_studio(darkroom, viewer)
    file = FilePayload(name="a.png", mimeType="image/png", buffer=a_picture((width, 1000)))
    await page.get_by_label("Upload", exact=True).set_input_files(file)
    await expect(page.locator('[data-state="done"]')).to_be_visible()
    first, *others = [
        str(await image.get_attribute("src")).partition("?")[0]
        for image in await page.locator("figure img").all()
    ]

    def is_missing(url: str) -> bool:
        return (url == first) == (missing == "small")

    async def lose(route: Route) -> None:
        url = route.request.url.partition("?")[0]
        asked[url] += 1
        # Where the small file is missing, the original cannot be read at first either.
        is_lost = is_missing(url) or (missing == "small" and asked[url] == 1)
        await (route.abort() if is_lost and url not in others else route.continue_())

    def most_attempts() -> int:
        return max((asked[url] for url in asked if is_missing(url)), default=0)

    devtools = await page.context.new_cdp_session(page)
    await devtools.send("Network.setCacheDisabled", {"cacheDisabled": missing == "small"})
    await page.route("**/objects/**", lose)
    await page.reload()
    await page.locator("figure .open").first.click()

    await eventually(lambda: most_attempts() >= MOST_ATTEMPTS, what="it is given up")
    image, shown = "document.querySelector('dialog .image img')", width
    if missing == "original":
        shown = 512
    await wait_until_true(page, f"{image}?.naturalWidth === {shown}")
    await wait_until_true(page, f"{image}?.matches('.loaded')")
    assert all(n <= MOST_ATTEMPTS for url, n in asked.items() if url != first)


async def test_the_studio_works_if_the_browser_blocks_its_storage(
    darkroom: Darkroom, client: GraphQLClient, open_studio: OpenStudio
) -> None:
    page = await open_studio(darkroom, None, path="albums")
    await page.add_init_script(BLOCKED)
    await page.goto(f"{darkroom.url}/studio/#token={client.token}")
    await page.get_by_role("button", name="New picture").click()
    await page.get_by_label("What would you like to see?").fill("A boat at dawn")
    await expect(page.get_by_role("button", name="Create", exact=True)).to_be_enabled()


def _is_renaming(response: Response) -> bool:
    return "renameConversation" in (response.request.post_data or "")
