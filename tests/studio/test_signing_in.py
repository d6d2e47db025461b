"""Signing in to the studio at an OpenID provider, in a real browser; and renewing tokens."""

import re
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
from playwright.async_api import Page, expect
from pydantic import SecretStr

from edge.dev_tokens import DevelopmentIssuer
from tests.conftest import Darkroom, StartDarkroom
from tests.simulators.openid import AUDIENCE, CLIENT, OpenIDProvider, an_openid_provider
from tests.studio.conftest import OpenStudio, find_barriers
from tests.studio.steps import wait_until_true
from tests.tools import find_tool


@pytest.fixture
async def provider() -> AsyncIterator[OpenIDProvider]:
    async with an_openid_provider() as provider:
        yield provider


@pytest.fixture
async def production(start_darkroom: StartDarkroom, provider: OpenIDProvider) -> Darkroom:
    return await start_darkroom(
        environment="production",
        secret=SecretStr("s" * 32),
        token_issuer=provider.url,
        token_audience=(AUDIENCE,),
        studio_client_id=CLIENT,
        studio_scopes="openid offline_access",
    )


async def sign_in(page: Page, name: str = "ana") -> None:
    await page.get_by_role("button", name="Sign in").click()
    await page.get_by_label("Name").fill(name)
    await page.get_by_role("button", name="Continue").click()


async def expect_signed_in(page: Page, name: str = "ana") -> None:
    await page.get_by_role("button", name="Settings").click()
    await expect(page.get_by_text(f"Signed in as {name}!")).to_be_visible()
    await page.keyboard.press("Escape")


async def test_signing_in_returns_to_the_view_and_stays_signed_in(
    production: Darkroom, provider: OpenIDProvider, open_studio: OpenStudio
) -> None:
    page = await open_studio(production, None, path="albums")
    await expect(page.get_by_text("You sign in at 127.0.0.1")).to_be_visible()
    if find_tool("studio"):
        assert await find_barriers(page) == []

    await sign_in(page)

    await expect(page.get_by_text("No albums yet")).to_be_visible()
    assert page.url == f"{production.url}/studio/albums"
    await expect_signed_in(page)
    kept = await page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
    assert "eyJ" not in kept

    await page.reload()
    await expect(page.get_by_text("No albums yet")).to_be_visible()
    assert page.url == f"{production.url}/studio/albums"
    assert provider.counts["pages"] == 1

    other = await open_studio(production, None, path="posts", beside=page)
    await expect(other.get_by_text("No posts yet")).to_be_visible()
    await page.get_by_role("button", name="Settings").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    await expect(other.get_by_role("button", name="Sign in")).to_be_visible()
    await page.reload()
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    await sign_in(page, "rui")
    await expect_signed_in(page, "rui")


async def test_a_lost_session_of_the_provider_leads_to_signing_in_again(
    production: Darkroom, provider: OpenIDProvider, open_studio: OpenStudio
) -> None:
    page = await open_studio(production, None, path="posts")
    await sign_in(page)
    await expect(page.get_by_text("No posts yet")).to_be_visible()
    await page.context.clear_cookies()

    await page.reload()

    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert page.url == f"{production.url}/studio/posts"
    assert provider.counts["pages"] == 1


async def test_what_one_viewer_has_typed_is_not_shown_to_the_next(
    production: Darkroom, open_studio: OpenStudio
) -> None:
    page = await open_studio(production, None)
    words = page.get_by_label("Search pictures")
    await sign_in(page)
    await words.fill("a secret")
    await wait_until_true(page, "Object.values(sessionStorage).includes('a secret')")
    # The provider has ended the session: nobody has signed out here.
    await page.context.clear_cookies()
    await page.reload()

    await sign_in(page, "rui")

    await expect_signed_in(page, "rui")
    await expect(words).to_have_value("")


async def test_an_unrequested_response_signs_nobody_in(
    production: Darkroom, provider: OpenIDProvider, open_studio: OpenStudio
) -> None:
    page = await open_studio(production, None, path="?code=stolen&state=guessed")
    await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert page.url == f"{production.url}/studio/"
    assert provider.counts["authorization_code"] == 0

    provider.nonce = "of another sign-in"
    await sign_in(page)
    await expect(page.get_by_text("Signing in did not work.")).to_be_visible()
    provider.nonce = None
    await page.get_by_role("button", name="Sign in").click()
    await expect_signed_in(page)


async def test_a_token_is_renewed_on_the_open_socket(
    production: Darkroom, provider: OpenIDProvider, open_studio: OpenStudio
) -> None:
    provider.life_seconds = 8
    page = await open_studio(production, None)
    sockets: list[str] = []
    sent: list[str] = []

    def watch(socket: object) -> None:
        sockets.append(str(socket))
        socket.on("framesent", lambda frame: sent.append(str(frame)))  # type: ignore[attr-defined]

    page.on("websocket", watch)
    await sign_in(page)
    await expect_signed_in(page)

    for _ in range(3):
        async with page.expect_response(f"{provider.url}/token"):
            pass

    await expect(page.get_by_role("dialog", name="Your session has ended")).to_have_count(0)
    assert len(sockets) == 1
    assert provider.counts["refresh_token"] >= 3
    assert len([frame for frame in sent if '"ping"' in frame and "Bearer" in frame]) >= 2


async def test_without_a_refresh_token_signing_in_again_loses_nothing(
    production: Darkroom, provider: OpenIDProvider, open_studio: OpenStudio
) -> None:
    provider.life_seconds = 6
    provider.refreshes = False
    page = await open_studio(production, None)
    await sign_in(page)
    await page.get_by_role("button", name="New picture").click()
    await page.get_by_label("What would you like to see?").fill("A boat at dawn")
    ended = page.get_by_role("dialog", name="Your session has ended")
    await expect(ended).to_be_visible(timeout=20_000)

    provider.life_seconds = 300
    await ended.get_by_role("button", name="Sign in").click()

    await page.get_by_role("button", name="New picture").click()
    await expect(page.get_by_label("What would you like to see?")).to_have_value("A boat at dawn")
    assert provider.counts["pages"] == 1


async def test_a_development_token_is_renewed(darkroom: Darkroom, open_studio: OpenStudio) -> None:
    viewer = f"viewer {uuid4().hex}"
    token = DevelopmentIssuer(darkroom.settings.data_dir).token(viewer, life=timedelta(seconds=5))
    page = await open_studio(darkroom, token=token)

    async with page.expect_response(re.compile("/studio/token$")) as renewal:
        await expect(page.locator("figure")).to_have_count(4)

    assert (await renewal.value).status == 200
    kept = await page.evaluate("localStorage.getItem('darkroom.token')")
    assert kept != token
    data = await darkroom.with_token(kept)("{ viewer { id } }")
    assert data["viewer"]["id"]


async def test_only_a_valid_token_is_renewed(darkroom: Darkroom, production: Darkroom) -> None:
    refused = await darkroom.with_token("none").http.post("/studio/token")
    nobody = await darkroom.anonymous().http.post("/studio/token")
    elsewhere = await production.with_token(darkroom.token("ana")).http.post("/studio/token")

    assert (refused.status_code, nobody.status_code) == (401, 401)
    assert elsewhere.status_code == 405
