"""The small inputs of `tests/cases/`, each with its expected value. Answers of providers are in
`tests/providers/test_odd_answers.py`.
"""

from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from PIL import Image

from tests.clients import GraphQLClient
from tests.conftest import Darkroom
from tests.http import open_http
from tests.uploads import complete, sent

CASES: Final = Path(__file__).parent.parent / "cases"
TYPES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
Pixel = tuple[int, int, int, int]
CLEAR: Final = 0
SHOWN: Final[dict[str, tuple[str, tuple[int, int], list[Pixel]]]] = {
    "LA_grayicc.png": ("PNG", (64, 48), [(128, 128, 128, 255), (128, 128, 128, CLEAR)]),
    "anc_crc.png": ("PNG", (320, 240), [(0, 0, 60, 255), (254, 253, 116, 255)]),
    "anim1.webp": ("WEBP", (64, 64), [(0, 0, 60, 255), (251, 251, 148, 255)]),
    "cicp_p3.png": ("PNG", (64, 48), [(255, 0, 0, 255), (255, 0, 0, 255)]),
    "gama_linear.png": ("PNG", (64, 48), [(128, 128, 128, 255), (128, 128, 128, 255)]),
    "gray16_trns.png": ("PNG", (64, 48), [(255, 255, 255, CLEAR), (4, 4, 4, 255)]),
    "gray4_trns.png": ("PNG", (64, 48), [(255, 255, 255, CLEAR), (17, 17, 17, 255)]),
    "junk_between.jpg": ("JPEG", (320, 240), [(0, 0, 85, 255), (254, 255, 106, 255)]),
    "noeoi.jpg": ("JPEG", (320, 240), [(0, 0, 85, 255), (254, 255, 106, 255)]),
    "rgb16_trns.png": ("PNG", (64, 48), [(128, 128, 128, CLEAR), (0, 0, 0, 255)]),
    "text_zip4M.png": ("PNG", (64, 64), [(0, 0, 60, 255), (251, 251, 148, 255)]),
    "webp_named.jpg": ("WEBP", (320, 240), [(4, 0, 104, 255), (252, 253, 107, 255)]),
}
"""Format, size, and the first and the last pixel, by numbers: 55 of light itself is 128 of sRGB."""
APART: Final = {"PNG": 1, "WEBP": 12, "JPEG": 12}
"""What is encoded again may be that far apart."""


def test_every_case_has_its_test() -> None:
    pictures = {path.name for path in (CASES / "pictures").iterdir()}
    requests = {path.name for path in (CASES / "requests").iterdir()}

    assert pictures == set(SHOWN)
    assert requests == set(ANSWERED)


async def test_each_picture_has_the_expected_content(darkroom: Darkroom) -> None:
    client = darkroom.client()
    async with open_http() as http:
        for name, (kind, size, pixels) in SHOWN.items():
            path = CASES / "pictures" / name
            upload = await sent(client, path.read_bytes(), TYPES[path.suffix])

            image = await complete(client, upload["id"])

            kept = Image.open(BytesIO((await http.get(image["url"])).content))
            assert (kept.format, kept.size) == (kind, size), name
            corners = [(0, 0), (size[0] - 1, size[1] - 1)]
            for corner, pixel in zip(corners, pixels, strict=True):
                found: Any = kept.convert("RGBA").getpixel(corner)
                apart = max(abs(one - other) for one, other in zip(found, pixel, strict=True))
                assert apart <= APART[kind], (name, corner, found)


ANSWERED: Final[dict[str, Any]] = {
    "file-of-2-gib.json": ["UPLOAD_TOO_LARGE"],
    # As much as with the integer 100.
    "first-as-float.json": "QUERY_TOO_COMPLEX",
    "heavy-but-small.json": "QUERY_TOO_COMPLEX",
    "lone-surrogate.json": [],
    "mention-4301-digits.json": ["PROMPT_TOO_LONG", "UNKNOWN_MENTION"],
    "nul-in-a-literal.json": [],
    "persisted-query.json": "PERSISTED_QUERY_NOT_FOUND",
    "title-cut-in-a-family.json": None,
}
"""The code of the whole request's error, or those of its user errors; None: not requested."""


@pytest.mark.parametrize("name", ANSWERED)
async def test_each_request_has_its_response(client: GraphQLClient, name: str) -> None:
    body = (CASES / "requests" / name).read_bytes()

    headers = {"content-type": "application/json"}
    response = await client.http.post("/graphql", content=body, headers=headers)

    answer = response.json()
    assert response.status_code == 200
    if isinstance(ANSWERED[name], str):
        assert [one["extensions"]["code"] for one in answer["errors"]] == [ANSWERED[name]]
        return
    assert "errors" not in answer
    (payload,) = answer["data"].values()
    if ANSWERED[name] is not None:
        assert [one["code"] for one in payload["userErrors"]] == ANSWERED[name]
    title = (payload.get("conversation") or {}).get("title", "")
    assert "\0" not in title
    assert "\u200d" not in title, "It is cut inside of a letter."
