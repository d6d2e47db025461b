"""Captions: the words of a post, what a writer is asked for, and what it delivers."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from domain.errors import UserErrorCode
from domain.images import Image
from domain.outputs import ProviderJob, Report
from domain.refusals import Refusals
from domain.registry import RegisteredModel, Registry
from domain.text import is_blank, one_line, shorten

MIN_CAPTION_LENGTH: Final = 50
MAX_CAPTION_LENGTH: Final = 2_200
"""Instagram's limit, the lowest one of the networks that take long captions."""
MAX_HASHTAGS: Final = 10
MAX_TONE_LENGTH: Final = 60
MAX_LANGUAGE_LENGTH: Final = 35
_BETWEEN: Final = "\n\n"

_LANGUAGE: Final = re.compile(
    r"(?P<language>[a-z]{2,3})"
    r"(?:-(?P<script>[a-z]{4}))?"
    r"(?:-(?P<region>[a-z]{2}|[0-9]{3}))?"
    r"(?P<variants>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*)",
    re.IGNORECASE,
)
"""The part of BCP 47 that names a written language: no extensions, no private subtags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionOptions:
    """How a caption should be."""

    language: str | None = None
    """A BCP 47 tag; None: the message's own language."""
    max_length: int = 600
    """The most characters."""
    hashtags: int = 0
    """The most hashtags, which stand at the end of the caption."""
    tone: str | None = None
    """A few words of the viewer's, such as "warm"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionModel(RegisteredModel):
    """One row of the catalogue: a model that writes captions."""

    credits: int = 1
    """Credits for one caption."""
    languages: tuple[str, ...] = ()
    """The primary subtags of the languages that it writes; empty if it writes all."""
    max_references: int = 0
    """How many of a post's references it can be shown."""
    deadline: timedelta = timedelta(seconds=60)
    other_routes: tuple["CaptionModel", ...] = ()


class CaptionModelRegistry(Registry[CaptionModel]):
    """The caption models. A stored id that is not here still resolves."""

    def _make_retired(self, **facts: Any) -> CaptionModel:
        return CaptionModel(**facts)

    def default(self) -> CaptionModel | None:
        """The model that writes where none is named."""
        models = map(self.get, self._defaults)
        return next((model for model in models if model is not None and model.available), None)

    def heir(self, name: str) -> CaptionModel | None:
        """The model that writes again what the model of this name has written: itself, its
        replacement or the default, if it costs no more. None if no model can.
        """
        price = self.remembered(name).credits
        candidates = (self.successor(name), self.default())
        return next((one for one in candidates if one and one.credits <= price), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedCaption:
    """A caption as it is planned, before a writer is asked."""

    model: CaptionModel
    options: CaptionOptions
    reference_prompts: tuple[str, ...]
    """The prompts of the post's references, as far as they are known."""

    @property
    def credits(self) -> int:
        return self.model.credits


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRequest:
    """Everything that a writer needs to know for one caption."""

    attempt: int
    """The attempt, from 1. A run that is started again has the same number."""
    model: CaptionModel
    message: str
    """The message as the viewer wrote it: it may mention references as @Image1."""
    options: CaptionOptions
    references: tuple[Image, ...] = ()
    """The post's references, in their numbering."""
    reference_prompts: tuple[str, ...] = ()
    seconds_left: float
    """The time until the caption's deadline, at which it times out."""
    job: ProviderJob | None = None
    """A job that the provider has accepted for this caption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionDelivery(Report):
    """A written caption: never blank, and at most as long as was asked for. The runner adds the
    provider.
    """

    text: str


def tidy_options(options: CaptionOptions) -> CaptionOptions:
    """The options as they are stored: the language tag in its usual spelling, the tone
    on one line.
    """
    return CaptionOptions(
        language=None if options.language is None else _spell(options.language),
        max_length=options.max_length,
        hashtags=options.hashtags,
        tone=_tidy_tone(options.tone),
    )


def _tidy_tone(tone: str | None) -> str | None:
    """The tone on one line. It stays within its limit, so that a caption can be written again with
    the stored options: balancing direction controls may have made it longer.
    """
    if tone is None or is_blank(tone):
        return None
    return shorten(one_line(tone), MAX_TONE_LENGTH).rstrip()


def check_caption_options(
    options: CaptionOptions, model: CaptionModel | None, refusals: Refusals
) -> None:
    """Add to `refusals` what is wrong with the options; for this model too, if it is known."""

    def refuse(message: str, field: str) -> None:
        refusals.add(UserErrorCode.CAPTION_OPTIONS_INVALID, message, "captionOptions", field)

    if not MIN_CAPTION_LENGTH <= options.max_length <= MAX_CAPTION_LENGTH:
        refuse(
            f"A caption has at most {MIN_CAPTION_LENGTH} to {MAX_CAPTION_LENGTH:,} characters.",
            "maxLength",
        )
    if not 0 <= options.hashtags <= MAX_HASHTAGS:
        refuse(f"A caption has 0 to {MAX_HASHTAGS} hashtags.", "hashtags")
    if options.tone is not None and len(options.tone) > MAX_TONE_LENGTH:
        refuse(f"A tone is described in at most {MAX_TONE_LENGTH} characters.", "tone")
    if options.language is None:
        return
    spelled = _spell(options.language)
    if _LANGUAGE.fullmatch(spelled) is None or len(spelled) > MAX_LANGUAGE_LENGTH:
        refuse("A language is a BCP 47 tag, such as en or pt-BR.", "language")
    elif model is not None and not writes(model, spelled):
        known = ", ".join(model.languages)
        refuse(f"{model.label} writes these languages only: {known}.", "language")


def writes(model: CaptionModel, language: str) -> bool:
    """Whether the model writes the language of this tag."""
    return not model.languages or primary_subtag(language) in model.languages


def primary_subtag(language: str) -> str:
    """The primary subtag of a tag, such as `pt` of `pt-BR`."""
    return language.partition("-")[0].lower()


def add_caption(message: str, caption: str, *, max_length: int) -> str:
    """The prompt from which a post's images are made: the message, then as much of the caption as
    a prompt may have.
    """
    room = max_length - len(message) - len(_BETWEEN)
    return f"{message}{_BETWEEN}{shorten(caption, room)}" if room > 0 and caption else message


def _spell(language: str) -> str:
    """A tag as BCP 47 recommends it, such as `pt-BR` for `PT_br`. Tags of other forms are not
    changed.
    """
    found = _LANGUAGE.fullmatch(language.strip().replace("_", "-"))
    if found is None:
        return language
    script, region = found["script"], found["region"]
    parts = (found["language"].lower(), script and script.title(), region and region.upper())
    return "-".join(filter(None, parts)) + found["variants"].lower()
