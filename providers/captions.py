"""Captions by language models: how a model is asked for one, and what is used of its answer.

What must stay true: a delivered caption is never blank, is at most as long as was requested, and
has no more hashtags; what is shown while it is written begins like it where the model writes
tidily.
"""

from dataclasses import dataclass
from typing import Final

import regex

from domain.captions import CaptionRequest
from domain.mentions import IN_WORDS, spell_mentions
from domain.text import balance_directions, is_blank, shorten

MAX_REFERENCE_BYTES: Final = 1_000_000
"""The longest side of each reference that a model is shown: enough to see what is in it."""

REFUSAL_SIGN: Final = "[no caption]"
"""What a model is asked to answer with if it does not want to write: no provider marks a complete
answer that is an apology.
"""

_MAX_PROMPT_LENGTH: Final = 300
_SPARE_TOKENS: Final = 64
_MIN_KEPT: Final = 0.5
"""A caption that is too long is cut at the end of a sentence that leaves at least this fraction."""

_DENSE: Final = regex.compile(r"[^\p{Latin}\p{Common}\p{Inherited}]")
"""Scripts of which models use more tokens than of Latin."""
_FENCE: Final = regex.compile(r"^```[^\n`]*\n(?P<inside>.*?)(?:\n```\s*)?$", regex.DOTALL)
_LABEL: Final = regex.compile(
    r"^(?:\*\*|__|#+ )?"
    r"(?:(?:caption|legenda)(?:\*\*|__)?[ ]*:"
    r"|(?:here(?:'s|’s| is)|aqui está|segue)[^\n:]{0,60}:(?=\s*\n))"
    r"(?:\*\*|__)?\s*",
    regex.IGNORECASE,
)
_QUOTES: Final = {'"': '"', "“": "”", "«": "»", "„": "“", "‘": "’", "'": "'"}
_EMPHASIS: Final = regex.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1", regex.DOTALL)
_HEADING: Final = regex.compile(r"^#{1,6} +", regex.MULTILINE)
_CONTROLS: Final = regex.compile(r"[\p{Cc}\p{Cs}--[\n]]", regex.VERSION1)
_BLANKS: Final = regex.compile(r"[^\S\n]+")
_LINES: Final = regex.compile(r" ?\n ?(?:\n\s*)?")
_HASHTAG: Final = regex.compile(r"(?<![\p{L}\p{N}_&/#])#(?=[\p{L}\p{N}_])[\p{L}\p{M}\p{N}_]+")
_LAST_HASHTAGS: Final = regex.compile(rf"(?:(?:^|\s+){_HASHTAG.pattern})+\s*$")
_SENTENCE_END: Final = regex.compile(r"[.!?…。！？]+[\"”»’')]*(?=\s|$)|(?<=[。！？])")
_LAST_WORD: Final = regex.compile(r"\s+\S*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionEndpoint:
    """How one model is asked for captions: the `wire` of a row."""

    effort: str | None = None
    """How much it thinks before it writes, in its provider's word; None where it
    is not sent.
    """
    thinking_tokens: int = 0
    """Tokens for thinking, in addition to those of the caption."""


def instruct(request: CaptionRequest) -> str:
    """Write a model's task."""
    options = request.options
    if options.language is None:
        language = "Write in the language in which the message is written."
    else:
        language = f"Write in the language with the BCP 47 tag {options.language}."
    if options.hashtags:
        hashtags = f"End with at most {options.hashtags} hashtags; they count as characters too."
    else:
        hashtags = "Use no hashtags."
    sentences = [
        "You write the captions of posts in social media.",
        "The message says what the post is about, and may say how to write.",
        language,
        f"Write at most {options.max_length} characters.",
        hashtags,
        *([f"The tone: {options.tone}."] if options.tone else []),
        "Be concrete and brief, without clichés.",
        "Do not make up facts, names, prices, dates or links.",
        "Answer with the caption alone: no title, no quotation marks, no Markdown, no comment.",
        f"If you cannot or may not write one, answer with {REFUSAL_SIGN} in any language.",
    ]
    return " ".join(sentences)


def words_for(request: CaptionRequest) -> str:
    """The message as a model reads it, with what is known of the post's references."""
    places = {number: number for number in range(1, len(request.references) + 1)}
    message = spell_mentions(request.message, places, IN_WORDS)
    prompts = [shorten(prompt, _MAX_PROMPT_LENGTH) for prompt in request.reference_prompts]
    if not prompts:
        return message
    made_from = "\n".join(f"- {prompt}" for prompt in prompts)
    return f"{message}\n\nThe post's reference images were made from these words:\n{made_from}"


def max_tokens_for(request: CaptionRequest, endpoint: CaptionEndpoint) -> int:
    """How many tokens a caption of the requested length may use.

    Latin letters, also of Portuguese, need about one for two characters, others up to one for each.
    """
    length = request.options.max_length
    dense = request.options.language is not None or _DENSE.search(request.message) is not None
    return (length if dense else length // 2) + _SPARE_TOKENS + endpoint.thinking_tokens


def is_refusal(text: str, *, is_draft: bool = False) -> bool:
    """Whether a model has answered that it does not write the caption; for a draft: whether it may
    be about to.
    """
    folded = text.strip().casefold()
    return REFUSAL_SIGN in folded or (is_draft and REFUSAL_SIGN.startswith(folded))


def tidy_caption(
    text: str, request: CaptionRequest, *, is_cut: bool = False, is_draft: bool = False
) -> str:
    """The part of a model's answer that is the caption; empty if there is none.

    `is_cut`: the model had to stop before the end. `is_draft`: it is still writing.
    """
    options = request.options
    plain = _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\t", " "))
    plain = _EMPHASIS.sub(r"\2", _HEADING.sub("", _strip_wrapping(plain.strip())))
    plain = _LINES.sub(_line_break, _BLANKS.sub(" ", plain)).strip()
    caption = balance_directions(_limit_hashtags(plain, options.hashtags))
    if is_blank(caption):
        return ""
    if is_draft:
        caption = shorten(caption, options.max_length)
    elif is_cut or len(caption) > options.max_length:
        caption = _cut(caption, options.max_length)
    return "" if is_blank(caption) else caption


def _strip_wrapping(text: str) -> str:
    """The text without a code fence or a label around it."""
    fenced = _FENCE.match(text)
    return _LABEL.sub("", fenced["inside"].strip() if fenced is not None else text, count=1)


def _strip_quotes(text: str) -> str:
    """The text without quotation marks around all of it."""
    text = text.strip()
    closing = _QUOTES.get(text[:1])
    if closing is None or closing in text[1:-1] or text[:1] in text[1:-1]:
        return text
    return text[1:].removesuffix(closing).strip()


def _line_break(found: regex.Match[str]) -> str:
    return "\n\n" if found[0].count("\n") > 1 else "\n"


def _limit_hashtags(text: str, most: int) -> str:
    """The text without quotation marks, and with at most this many hashtags: surplus ones at the
    end are removed, those within a sentence become plain words.
    """
    last = _LAST_HASHTAGS.search(text)
    end = last.start() if last is not None else len(text)
    at_end = _HASHTAG.findall(text[end:])
    count = 0

    def limit(found: regex.Match[str]) -> str:
        nonlocal count
        count += 1
        word: str = found[0]
        return word if count <= most else word[1:]

    inside = _HASHTAG.sub(limit, _strip_quotes(text[:end]))
    kept = " ".join(at_end[: max(0, most - count)])
    if not inside and not kept:
        # A caption of hashtags alone has been paid for, too.
        return " ".join(hashtag[1:] for hashtag in at_end)
    between = "\n" if text[end:].lstrip(" ").startswith("\n") else " "
    return f"{inside}{between}{kept}".strip()


def _cut(text: str, length: int) -> str:
    """The last complete sentences that fit into this many characters, with the hashtags at the end;
    with an ellipsis if that would leave too little.
    """
    last = _LAST_HASHTAGS.search(text)
    if last is not None and 0 < len(text) - last.start() < length // 2 <= last.start():
        hashtags = text[last.start() :]
        return _cut(text[: last.start()], length - len(hashtags)) + hashtags
    kept = shorten(text, length)
    ends = [end for found in _SENTENCE_END.finditer(text) if (end := found.end()) <= len(kept)]
    if ends and ends[-1] >= _MIN_KEPT * len(kept):
        return balance_directions(kept[: ends[-1]])
    words = _LAST_WORD.sub("", shorten(text, length - 1)).rstrip(" ,;:–—-")
    return f"{balance_directions(words)}…"
