"""Logos of companies over real HTTP."""

import re
from xml.etree import ElementTree

import pytest

from edge.logos import draw_logo, logo_path
from providers.catalogue import load_catalogue
from tests.clients import GraphQLClient
from tests.conftest import Darkroom
from tests.http import open_http

COMPANIES = sorted({model.company for model in load_catalogue(rehearsals=True).all()})


def test_every_company_has_its_own_stable_logo() -> None:
    marks = [draw_logo(company) for company in COMPANIES]

    assert len(COMPANIES) > 5
    assert len(set(marks)) == len(COMPANIES)
    assert marks == [draw_logo(company.upper()) for company in COMPANIES]
    for mark in marks:
        root = ElementTree.fromstring(mark)
        tags = {one.tag.rpartition("}")[2] for one in root.iter()}
        assert tags <= {"svg", "g", "rect", "circle", "path"}


@pytest.mark.parametrize("company", ["", "A & B", "../../etc", "Ünïcode", '"quoted" <svg>'])
def test_any_name_has_a_safe_path_and_a_logo(company: str) -> None:
    path = logo_path(company)

    assert re.fullmatch(r"/logos/[a-z0-9-]+\.svg", path)
    assert ElementTree.fromstring(draw_logo(company)) is not None


async def test_the_url_of_each_model_returns_the_logo_of_its_company(
    darkroom: Darkroom, client: GraphQLClient
) -> None:
    data = await client("{ models(includeUnlisted: true) { company logoUrl } }")
    urls = {one["company"]: one["logoUrl"] for one in data["models"]}

    assert sorted(urls) == COMPANIES
    for company, url in urls.items():
        assert url == darkroom.url + logo_path(company)
    async with open_http() as browser:
        for company, url in urls.items():
            answer = await browser.get(url)
            assert answer.status_code == 200
            assert answer.content == draw_logo(company)
            assert answer.headers["content-type"] == "image/svg+xml"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
            again = await browser.get(url, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            head = await browser.head(url)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/logos/nobody.svg", 404),
        ("GET", "/logos/", 404),
        ("GET", "/logos/../logos/x", 404),
        ("GET", "/logos/%2e%2e%2fsettings.py", 404),
        ("POST", logo_path("Google"), 405),
        ("DELETE", logo_path("Google"), 405),
    ],
)
async def test_any_other_path_is_an_error(
    darkroom: Darkroom, method: str, path: str, status: int
) -> None:
    async with open_http() as browser:
        answer = await browser.request(method, darkroom.url + path)

    assert answer.status_code == status
    assert answer.json()["errors"][0]["extensions"]["code"] in ("NOT_FOUND", "METHOD_NOT_ALLOWED")
    assert answer.headers["x-content-type-options"] == "nosniff"
