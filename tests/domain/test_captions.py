"""The options of captions, and the prompts of images that follow a caption."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.captions import (
    CaptionModel,
    CaptionModelRegistry,
    CaptionOptions,
    add_caption,
    check_caption_options,
    tidy_options,
)
from domain.errors import UserErrorCode
from domain.ids import ModelId
from domain.refusals import Refusals
from tests.withdrawals import withdrawn


def a_writer(name: str = "writer", **fields: object) -> CaptionModel:
    texts = dict.fromkeys(("label", "description", "company", "provider"), name)
    return CaptionModel(**{"id": ModelId(name), **texts, **fields})  # type: ignore[arg-type]


def _refused(options: CaptionOptions, model: CaptionModel | None = None) -> list[str]:
    refusals = Refusals()
    check_caption_options(options, model, refusals)
    assert {error.code for error in refusals.found} <= {UserErrorCode.CAPTION_OPTIONS_INVALID}
    assert all(error.path[:2] == ("input", "captionOptions") for error in refusals.found)
    return [error.path[2] for error in refusals.found]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (CaptionOptions(), []),
        (CaptionOptions(max_length=50, hashtags=10, tone="t" * 60), []),
        (CaptionOptions(max_length=2_200, tone=""), []),
        (CaptionOptions(max_length=49), ["maxLength"]),
        (CaptionOptions(max_length=2_201), ["maxLength"]),
        (CaptionOptions(hashtags=-1), ["hashtags"]),
        (CaptionOptions(hashtags=11, tone="t" * 61), ["hashtags", "tone"]),
    ],
)
def test_options_have_limits(options: CaptionOptions, wrong: list[str]) -> None:
    assert _refused(options) == wrong


@pytest.mark.parametrize(
    ("tag", "spelled"),
    [
        ("en", "en"),
        ("PT-br", "pt-BR"),
        ("pt_BR", "pt-BR"),
        (" de ", "de"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("es-419", "es-419"),
        ("sl-ROZAJ-1994", "sl-rozaj-1994"),
    ],
)
def test_a_language_is_stored_in_canonical_form(tag: str, spelled: str) -> None:
    options = CaptionOptions(language=tag)

    assert _refused(options) == []
    assert tidy_options(options).language == spelled


@pytest.mark.parametrize("tag", ["", "e", "english", "português", "en-", "x-klingon", "en-US-u-ca"])
def test_an_invalid_language_tag_is_refused(tag: str) -> None:
    assert _refused(CaptionOptions(language=tag)) == ["language"]


@given(st.text(st.sampled_from("a \n\u2067\u202a\u202e\u2069"), max_size=60))
def test_stored_options_are_accepted_again(tone: str) -> None:
    """A caption that is rewritten has the options that were stored, unless others are given."""
    tidied = tidy_options(CaptionOptions(tone=tone))

    assert _refused(tidied) == []
    assert tidy_options(tidied) == tidied


@given(st.text(max_size=80))
def test_any_text_is_a_language_tag_or_refused(tag: str) -> None:
    options = CaptionOptions(language=tag, tone=tag[:60])

    if not _refused(options):
        tidied = tidy_options(options)
        assert tidy_options(tidied) == tidied


def test_a_model_writes_only_the_languages_it_supports() -> None:
    writer = a_writer(languages=("en", "pt"))

    assert _refused(CaptionOptions(language="pt-BR"), writer) == []
    assert _refused(CaptionOptions(language="de"), writer) == ["language"]
    assert _refused(CaptionOptions(language="de"), a_writer()) == []


def test_a_tone_is_a_single_line_or_absent() -> None:
    assert tidy_options(CaptionOptions(tone=" warm,\n  but short ")).tone == "warm, but short"
    assert tidy_options(CaptionOptions(tone=" \u200b ")).tone is None


def test_images_are_made_from_the_message_and_the_caption() -> None:
    assert add_caption("Cold brew", "Cold brew, on ice.", max_length=100) == (
        "Cold brew\n\nCold brew, on ice."
    )
    assert add_caption("Cold brew", "", max_length=100) == "Cold brew"


@given(st.text(max_size=40), st.text(max_size=40), st.integers(min_value=40, max_value=60))
def test_a_prompt_with_a_caption_has_the_maximum_length_of_a_prompt(
    message: str, caption: str, max_length: int
) -> None:
    prompt = add_caption(message, caption, max_length=max_length)

    assert prompt.startswith(message)
    assert len(prompt) <= max_length


def test_the_default_is_the_first_available_model() -> None:
    writers = CaptionModelRegistry([a_writer("one"), a_writer("two", aliases=("second",))])
    assert (default := writers.default()) is not None
    assert default.id == "one"

    writers.withdraw(withdrawn("one", providers=("one",)))

    assert (default := writers.default()) is not None
    assert default.id == "two"
    assert writers.remembered("second").id == "two"
    assert writers.remembered("openai/gone").label == "gone"
    assert not writers.remembered("openai/gone").available


def test_a_withdrawn_caption_model_is_replaced_by_one_that_costs_no_more() -> None:
    writers = CaptionModelRegistry(
        [
            a_writer("dear", credits=3),
            a_writer("cheap", credits=1),
            a_writer("old", credits=2, replacement_id=ModelId("dear")),
        ],
        defaults=["dear", "cheap"],
    )
    assert (heir := writers.heir("old")) is not None
    assert heir.id == "old"

    writers.withdraw(withdrawn("old", providers=("old",)))
    assert writers.heir("old") is None  # both would cost more

    writers.withdraw(withdrawn("old", "dear", providers=("old", "dear")))
    assert (heir := writers.heir("old")) is not None
    assert heir.id == "cheap"
