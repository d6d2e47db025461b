"""GraphiQL: from our own origin, signed in as the studio is, with live updates."""

import re
from pathlib import Path

from playwright.async_api import Page, Request, expect
from starlette.applications import Starlette

from edge.graphiql import graphiql_routes
from tests.clients import GraphQLClient
from tests.conftest import Darkroom
from tests.serving import free_port, serving
from tests.studio.conftest import OpenStudio
from tests.tools import need


async def run(page: Page, text: str) -> None:
    editor = page.locator(".graphiql-query-editor .CodeMirror")
    await editor.evaluate("(element, text) => element.CodeMirror.setValue(text)", text)
    await page.get_by_role("button", name=re.compile("^Execute query")).click()


async def test_if_it_is_not_built_it_says_how_to_build_it(tmp_path: Path) -> None:
    app = Starlette(routes=graphiql_routes(tmp_path / "none"))
    port = free_port()
    async with serving(app, port) as url:
        client = GraphQLClient(url, None)
        response = await client.http.get("/graphiql/")
        await client.aclose()

    assert response.status_code == 404
    assert "make graphiql" in response.text


async def test_it_runs_queries_and_subscriptions_as_the_viewer_of_the_studio(
    darkroom: Darkroom, viewer: str, open_studio: OpenStudio
) -> None:
    need("graphiql")
    studio = await open_studio(darkroom, viewer)
    await expect(studio.locator("figure")).to_have_count(4)
    hosts: set[str] = set()

    def note(request: Request) -> None:
        hosts.add(request.url.split("/")[2])

    page = await studio.context.new_page()
    page.on("request", note)
    await page.goto(f"{darkroom.url}/graphiql/")

    await run(page, "{ viewer { id } }")
    await expect(page.locator(".result-window")).to_contain_text("user_")
    await run(page, "subscription { viewerUpdated { credits { available } } }")
    await expect(page.locator(".result-window")).to_contain_text("available")
    assert hosts == {darkroom.url.split("/")[2]}
