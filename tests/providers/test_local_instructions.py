import time

import pytest

from providers.local.language.instructions import Instructions, read_instructions


def edit(words: str) -> Instructions:
    return read_instructions(words, editing=True)


def done(words: str) -> list[str]:
    """What would be done, in words; fails where anything was not understood."""
    instructions = edit(words)
    assert instructions.not_understood == ()
    return [operation.said for operation in instructions.operations]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Make it black and white", "black and white"),
        ("in monochrome please", "black and white"),
        ("preto e branco", "black and white"),
        ("remove all colours", "black and white"),
        ("sepia", "sepia"),
        ("warmer", "warmer"),
        ("make it cooler", "cooler"),
        ("give it a sunset mood", "sunset light"),
        ("brighten it", "brighter"),
        ("mais claro", "brighter"),
        ("darken", "darker"),
        ("more contrast", "more contrast"),
        ("lower the contrast", "less contrast"),
        ("more vivid colors", "more vivid"),
        ("muted", "more muted"),
        ("blur it", "blurred"),
        ("sharpen the picture", "sharpened"),
        ("add a vignette", "a vignette"),
        ("pixelate", "pixelated"),
        ("pixel art", "pixelated"),
        ("posterise it", "posterised"),
        ("posterize it", "posterised"),
        ("invert the colors", "a negative"),
        ("mirror it", "mirrored"),
        ("flip horizontally", "mirrored"),
        ("flip it vertically", "flipped top to bottom"),
        ("rotate it by 30 degrees", "rotated 30° to the right"),
        ("turn the picture 90° left", "rotated 90° to the left"),
        ("rotate left", "rotated 90° to the left"),
        ("turn it upside down", "turned upside down"),
        ("crop to 16:9", "cropped to 16:9"),
        ("crop it square", "cropped to 1:1"),
        ("put it in a thick gold frame", "a gold frame"),
        ("add a border", "a white frame"),
        ("a pencil drawing", "a pencil sketch"),
        ("like an oil painting", "an oil painting"),
        ("watercolor", "a watercolour"),
        ("film grain", "grain"),
        ("haze", "fog"),
        ("at night", "night"),
        ("emboss", "embossed"),
        ("combine the images", "a collage"),
        ("blend them together", "a double exposure"),
        ("tint it teal", "tinted teal"),
    ],
)
def test_a_plain_instruction_is_understood(words: str, expected: str) -> None:
    assert done(words) == [expected]


def test_several_instructions_keep_their_order() -> None:
    words = "Make it sepia, mirror it and add a white border; then rotate 180 degrees."

    assert done(words) == ["sepia", "mirrored", "a white frame", "turned upside down"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("slightly warmer", "slightly warmer"),
        ("a bit darker", "slightly darker"),
        ("much brighter", "much brighter"),
        ("very blurred", "much blurred"),
        ("a subtle vignette", "a vignette, lightly"),
        ("sharpen by 60%", "much sharpened"),
        ("10 percent brighter", "slightly brighter"),
    ],
)
def test_amounts_are_understood(words: str, expected: str) -> None:
    assert done(words) == [expected]


def test_each_instruction_has_its_own_strength() -> None:
    assert done("slightly warmer and much darker") == ["slightly warmer", "much darker"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("it's too dark", ["brighter"]),
        ("less saturated", ["more muted"]),
        ("less blurry", ["sharpened"]),
        ("don't blur it", []),
        ("sepia, without grain", ["sepia"]),
    ],
)
def test_less_and_not_are_understood(words: str, expected: list[str]) -> None:
    assert done(words) == expected


@pytest.mark.parametrize("quotes", ['""', "“”", "‘’", "''", "«»"])
def test_quoted_words_are_written_and_never_interpreted(quotes: str) -> None:
    words = f"write {quotes[0]}not black and white, no sepia{quotes[1]} at the top"

    assert done(words) == ["the words “not black and white, no sepia” at the top"]


def test_an_apostrophe_is_not_a_quotation_mark() -> None:
    assert done("don't blur it, it's sepia that I'd like") == ["sepia"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ('add the text "Hi"', "the words “Hi” at the bottom"),
        ('"Hi" in the middle', "the words “Hi” in the centre"),
        ('write "Hi" in red letters at the top', "the words “Hi” at the top"),
    ],
)
def test_words_are_written_at_the_requested_place(words: str, expected: str) -> None:
    assert done(words) == [expected]


def test_instructions_that_are_not_understood_are_reported_as_written() -> None:
    instructions = edit("Sepia with a vignette, and make Her smile")

    assert [operation.said for operation in instructions.operations] == ["sepia", "a vignette"]
    assert instructions.not_understood == ("make Her smile",)


def test_removing_what_cannot_be_removed_is_not_understood() -> None:
    instructions = edit("remove the vignette")

    assert instructions.operations == ()
    assert instructions.not_understood == ("remove the vignette",)


def test_without_an_image_words_are_subjects_and_colours() -> None:
    instructions = read_instructions(
        "A lighthouse by a purple sea at night, black and white", editing=False
    )

    assert instructions.subjects == ("lighthouse", "sea", "night")
    assert instructions.colours == ("purple",)
    assert [operation.said for operation in instructions.operations] == ["black and white"]
    assert instructions.not_understood == ()


def test_unwanted_subjects_are_not_drawn() -> None:
    instructions = read_instructions("the sea without boats", editing=False)

    assert instructions.subjects == ("sea",)
    assert instructions.not_understood == ()


def test_very_long_words_take_little_time() -> None:
    started = time.process_time()
    instructions = edit("blur it and rotate by 3 degrees, then \"a\" or 'b' sepia more " * 400)

    assert len(instructions.operations) <= 16
    assert time.process_time() - started < 2


@pytest.mark.parametrize("words", ["", "   ", "⟦7⟧", '"', "“", "İ" * 50, "rotate 0 degrees", "0:0"])
def test_unusual_words_cause_no_errors(words: str) -> None:
    assert edit(words).operations == ()
