"""How answers of caption models are cleaned up, and what the models receive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.text import is_blank
from providers.captions import (
    CaptionEndpoint,
    instruct,
    max_tokens_for,
    tidy_caption,
    words_for,
)
from tests.providers.pictures import Shelf, a_colourful_picture, a_reference
from tests.providers.writers import a_caption

ENDPOINT = CaptionEndpoint()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("Soap, at last.", "Soap, at last."),
        ("  Soap.\n\n\n\nAt last.  ", "Soap.\n\nAt last."),
        ('"Soap, at last."', "Soap, at last."),
        ("“Soap, at last.”", "Soap, at last."),
        ("«Sabonete.»", "Sabonete."),
        ('"Soap" is what we call it: "lavender".', '"Soap" is what we call it: "lavender".'),
        ("'Soap' she said", "'Soap' she said"),
        ("Caption: Soap.", "Soap."),
        ("**Caption:** Soap.", "Soap."),
        ("Legenda: Sabonete.", "Sabonete."),
        ("Here is your caption:\n\nSoap.", "Soap."),
        ("Here's to summer: soap.", "Here's to summer: soap."),
        ("```\nSoap.\n```", "Soap."),
        ("```text\nSoap.\n```", "Soap."),
        ("# Soap\nAt last.", "Soap\nAt last."),
        ("**Soap**, __at__ last.", "Soap, at last."),
        ("Soap.\x00\x07\r\nAt last.", "Soap.\nAt last."),
        ("Soap.\u202e evil", "Soap. evil"),
        ("Soap. #soap #lavender", "Soap."),
        ("Soap from #Lisbon. #soap", "Soap from Lisbon."),
        ("No. #1 of the year", "No. 1 of the year"),
        ("https://soap.example/#top is up", "https://soap.example/#top is up"),
        ("", ""),
        (" \n ", ""),
        ("\u200b", ""),
        ('""', ""),
        ("#soap #new", "soap new"),
    ],
)
def test_a_caption_is_cleaned_up(said: str, kept: str) -> None:
    assert tidy_caption(said, a_caption()) == kept


def test_at_most_the_requested_hashtags_are_kept() -> None:
    said = "Soap from #Lisbon.\n\n#soap #lavender #new"

    assert tidy_caption(said, a_caption(hashtags=2)) == "Soap from #Lisbon.\n#soap"
    assert tidy_caption(said, a_caption(hashtags=9)) == "Soap from #Lisbon.\n#soap #lavender #new"
    assert tidy_caption("#soap #new", a_caption(hashtags=1)) == "#soap"


def test_a_long_caption_is_cut_at_a_sentence_or_word() -> None:
    first, second = "Our new soap smells of the fields near Tavira.", "It is made by two sisters."

    assert tidy_caption(f"{first} {second}", a_caption(max_length=60)) == first
    assert tidy_caption(f"{first} {second} #a #b", a_caption(max_length=60, hashtags=2)) == (
        f"{first} #a #b"
    )
    words = "lavender " * 20
    assert tidy_caption(words, a_caption(max_length=50)) == f"{'lavender ' * 5}".strip() + "…"


def test_a_truncated_caption_has_no_incomplete_sentence() -> None:
    said = "Our new soap is here. It smells of lav"

    assert tidy_caption(said, a_caption(), is_cut=True) == "Our new soap is here."
    assert tidy_caption("It smells of lav", a_caption(), is_cut=True) == "It smells of…"
    assert tidy_caption("", a_caption(), is_cut=True) == ""


@given(st.text(), st.integers(50, 120), st.integers(0, 3), st.booleans())
def test_a_caption_is_within_its_limits_for_any_answer(
    said: str, max_length: int, hashtags: int, is_cut: bool
) -> None:
    request = a_caption(max_length=max_length, hashtags=hashtags)

    caption = tidy_caption(said, request, is_cut=is_cut)

    assert caption == "" or not is_blank(caption)
    assert len(caption) <= max_length
    assert "\x00" not in caption


@given(st.lists(st.sampled_from(["#one", "two", ".", "\n", '"', "*", "# ", "three four"])))
def test_a_caption_has_no_more_hashtags_than_requested(parts: list[str]) -> None:
    caption = tidy_caption(" ".join(parts), a_caption(hashtags=1))

    assert caption.count("#one") <= 1


@pytest.mark.parametrize("said", ["#" * 20_000, "#a " * 7_000, '"' * 20_000, "**a" * 7_000])
def test_unusual_answers_are_cleaned_up_quickly(said: str) -> None:
    tidy_caption(said, a_caption())
    tidy_caption(said, a_caption(), is_draft=True)


def test_a_model_receives_the_requested_options() -> None:
    plain = instruct(a_caption())
    assert "in which the message is written" in plain
    assert "at most 600 characters" in plain
    assert "no hashtags" in plain
    assert "tone" not in plain

    instructions = instruct(a_caption(language="pt-BR", max_length=80, hashtags=3, tone="warm"))
    assert "pt-BR" in instructions
    assert "at most 80 characters" in instructions
    assert "at most 3 hashtags" in instructions
    assert "The tone: warm." in instructions


async def test_a_model_receives_mentions_and_prompts_of_references(shelf: Shelf) -> None:
    reference = await a_reference(shelf, a_colourful_picture())
    request = a_caption("Soap as in @Image1 and @Image2", reference, prompts=("a bar of soap",))

    words = words_for(request)

    assert words.startswith("Soap as in image 1 and @Image2")
    assert words.endswith("- a bar of soap")


def test_the_token_limit_depends_on_the_length() -> None:
    assert max_tokens_for(a_caption(max_length=600), ENDPOINT) == 364
    assert max_tokens_for(a_caption("新しい石鹸", max_length=600), ENDPOINT) == 664
    assert max_tokens_for(a_caption(language="ja", max_length=600), ENDPOINT) == 664
    thinking = CaptionEndpoint(thinking_tokens=256)
    assert max_tokens_for(a_caption(max_length=600), thinking) == 620
