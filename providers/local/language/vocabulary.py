"""The phrases that are understood, and the operation of each.

Phrases match text in lower case, in which ⟦0⟧ stands for a quotation. Earlier phrases match first,
so a phrase that contains another one comes before it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from domain.models import AspectRatio
from providers.local.colours import COLOUR_WORDS, COLOURS, colour_in, colour_name
from providers.local.language.grammar import OPPOSITES
from providers.local.language.operations import (
    Apply,
    Arrangement,
    Crop,
    Effect,
    Flip,
    Frame,
    Gather,
    Operation,
    Place,
    Rotate,
    Tint,
    Write,
    Zoom,
)

Make = Callable[[re.Match[str], Sequence[str]], Operation | None]


@dataclass(frozen=True, slots=True)
class Phrase:
    pattern: re.Pattern[str]
    make: Make
    opposed: bool = False
    """Whether the effect has an opposite, for "less" and "too"."""


def _words(*alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{'|'.join(alternatives)})(?!\w)")


def _effect(effect: Effect, *alternatives: str) -> Phrase:
    return Phrase(_words(*alternatives), lambda _match, _quotes: Apply(effect), effect in OPPOSITES)


def _frame(found: re.Match[str], _quotes: Sequence[str]) -> Operation:
    name = colour_in(found[0]) or "white"
    thin, thick = ("thin" in found[0] or "narrow" in found[0]), bool(_THICK.search(found[0]))
    return Frame(COLOURS[name], name, 0.5 if thin else 1.6 if thick else 1.0)


def _write(found: re.Match[str], quotes: Sequence[str]) -> Operation | None:
    words = quotes[int(found["quote"])]
    around = f"{found['lead'] or ''} {found['tail'] or ''}"
    place = Place.BOTTOM
    if _TOP.search(around):
        place = Place.TOP
    elif _CENTRE.search(around):
        place = Place.CENTRE
    colour = colour_in(around)
    return Write(words[:200], place, COLOURS[colour] if colour else None) if words else None


def _rotate(found: re.Match[str], _quotes: Sequence[str]) -> Operation | None:
    degrees = int(found["degrees"] or 90) % 360
    if _LEFTWARDS.search(found[0]):
        degrees = -degrees % 360
    return Rotate(degrees) if degrees else None


def _crop(found: re.Match[str], _quotes: Sequence[str]) -> Operation | None:
    width, height = int(found["width"]), int(found["height"])
    if not (width and height and 1 / 4 <= width / height <= 4):
        return None
    return Crop(AspectRatio(width, height))


def _crop_to(width: int, height: int) -> Make:
    return lambda _found, _quotes: Crop(AspectRatio(width, height))


def _flip(found: re.Match[str], _quotes: Sequence[str]) -> Operation:
    return Flip(vertical=bool(_VERTICALLY.search(found[0])))


def _tint(found: re.Match[str], _quotes: Sequence[str]) -> Operation:
    word = next(group for group in found.groups() if group)
    return Tint(COLOURS[colour_name(word)], colour_name(word))


def _gather(arrangement: Arrangement) -> Make:
    return lambda _found, _quotes: Gather(arrangement)


_TOP: Final = re.compile(r"\b(?:top|above|upper|topo|cima)\b")
_CENTRE: Final = re.compile(r"\b(?:centre|center|centred|centered|middle|meio|centro)\b")
_THICK: Final = re.compile(r"\b(?:thick|wide|broad|big|heavy|bold|polaroid)\b")
_LEFTWARDS: Final = re.compile(r"\b(?:left|counter-?clockwise|anti-?clockwise|esquerda)\b")
_VERTICALLY: Final = re.compile(r"vertical|upside|top to bottom|bottom to top")

_AROUND_QUOTE: Final = (
    r"(?:\s+(?:in|at|on|to|of|the|a|across|along|near|over|with|as|big|large|small|bold|letters?|"
    r"text|font|type|colou?r|title|caption|heading|picture|image|photo|top|bottom|upper|lower|"
    r"centre|center|centred|centered|middle|edge|corner|part|above|below|underneath|topo|cima|"
    rf"baixo|meio|centro|em|no|na|embaixo|{COLOUR_WORDS})\b)*"
)
_THIS: Final = (
    r"(?:\s+(?:it|this|that|them|the|a|an|whole|picture|image|photo|\w+graph|by|to|your))*"
)

_TOGETHER: Final = (
    r"(?:\s(?:them|all|both|these|the|of|two|three|four|images|pictures|photos|references|"
    r"together|into|in|one|a|single|image|picture|photo))*"
)

ANYWHERE: Final[tuple[Phrase, ...]] = (
    Phrase(
        re.compile(
            r"(?P<lead>\b(?:write|writing|add|put|place|print|with|say|says|saying|reads|reading|"
            r"titled|captioned|labelled|labeled|called|text|words?|title|caption|escreva|escrever)\b"
            r"[^,;.!?⟦⟧]{0,60}?)?"
            rf"⟦(?P<quote>\d+)⟧(?P<tail>{_AROUND_QUOTE})"
        ),
        _write,
    ),
    Phrase(
        _words(
            r"(?:(?:in|to|into) )?(?:black[\s-]*(?:and|&|n|'n')[\s-]*white|b ?(?:&|/|and) ?w|"
            r"monochrom(?:e|atic)|gr[ae]yscale|preto[\s-]e[\s-]branco)(?: (?:photo\w*|film))?",
            r"(?:remove|without|no|drop|take (?:away|out)|sem) (?:the |all |any )*colou?rs?",
            r"colou?rless|desaturate[d]? (?:it )?(?:completely|fully|totally)",
        ),
        lambda _match, _quotes: Apply(Effect.MONOCHROME),
    ),
    _effect(Effect.SEPIA, r"sepia(?:[\s-]ton(?:e|ed|es|ing))?", r"s[ée]pia"),
    _effect(
        Effect.VINTAGE,
        r"(?:like )?(?:an? )?(?:vintage|retro|antique|old(?:[\s-]fashioned)?)"
        r"(?: (?:photo\w*|print|film|look|style|postcard))",
        r"vintage|retro|antiga",
    ),
    _effect(Effect.CINEMATIC, r"cinematic(?: look)?|filmic|teal (?:and|&) orange|movie look"),
    _effect(
        Effect.SKETCH,
        r"(?:like )?(?:an? )?(?:pencil|charcoal|graphite)(?: (?:sketch|drawing|art|style))?",
        r"(?:like )?(?:an? )?(?:sketch(?:ed|y)?|line drawing|desenho(?: a l[aá]pis)?)",
    ),
    _effect(
        Effect.WATERCOLOUR,
        r"(?:like )?(?:an? )?(?:water[\s-]?colou?rs?|aquarela)(?: (?:painting|style))?",
    ),
    _effect(
        Effect.OIL,
        r"(?:like )?(?:an? )?(?:oils?|impressionist|acrylic)"
        r"(?:[\s-](?:painting|painted|paint|style|on canvas))?",
        r"(?:like )?(?:an? )?(?:painting|painted|painterly|pintura(?: a [oó]leo)?)",
    ),
    _effect(Effect.CARTOON, r"(?:like )?(?:an? )?(?:cartoon|comic(?:[\s-]book)?)(?:ish| style)?"),
    _effect(
        Effect.PIXELATE,
        r"pixel(?:ate|ated|ation|ise|ize|ised|ized| art|[\s-]?art|ado)",
        r"8[\s-]bit",
    ),
    _effect(Effect.POSTERISE, r"posteri[sz](?:e|ed|ation)", r"(?:fewer|flat) colou?rs"),
    _effect(
        Effect.NEGATIVE,
        r"(?:invert(?:ed)?|reverse)(?: (?:the )?colou?rs)?",
        r"(?:an? |the |photo(?:graphic)? )*negative|inverter|negativo",
    ),
    Phrase(
        _words(
            r"(?:an? )?(?:(?:thin|thick|wide|broad|narrow|big|heavy|simple|nice|small|bold|"
            rf"polaroid) )*(?:(?:{COLOUR_WORDS}) )*(?:picture |photo )?"
            r"(?:frame|border|moldura|borda|edging)"
            rf"(?:(?: in)? (?:{COLOUR_WORDS}))?",
            rf"framed(?: in (?:{COLOUR_WORDS}))?|frame{_THIS} in (?:{COLOUR_WORDS})|polaroid",
        ),
        _frame,
    ),
    Phrase(
        re.compile(
            rf"\b(?:rotat(?:e|ed|ion)|turn(?:ed)?|tilt(?:ed)?|gire|girar){_THIS}\s+"
            r"(?:(?:clockwise|counter-?clockwise|anti-?clockwise|left|right) )?(?:by )?"
            r"(?P<degrees>\d{1,3})\s*(?:°|degrees?|deg|graus)"
            r"(?:\s+(?:to |the |its |para |a )*"
            r"(?:left|right|clockwise|counter-?clockwise|anti-?clockwise|esquerda|direita))?"
        ),
        _rotate,
    ),
    Phrase(
        _words(
            rf"(?:(?:rotat(?:e|ed)|turn(?:ed)?|flip(?:ped)?){_THIS}\s+)?upside[\s-]down",
            r"de cabeça para baixo|on its head",
        ),
        lambda _match, _quotes: Rotate(180),
    ),
    Phrase(
        _words(
            rf"(?P<degrees>(?!))?(?:rotat(?:e|ed)|turn(?:ed)?|gire|girar){_THIS}\s+"
            r"(?:to the |to its )?(?:left|right|clockwise|counter-?clockwise|anti-?clockwise|"
            r"esquerda|direita)",
            rf"rotat(?:e|ed)(?:{_THIS})",
        ),
        _rotate,
    ),
    Phrase(
        _words(
            rf"(?:flip(?:ped)?|mirror(?:ed)?){_THIS}(?:\s+(?:around|over|along|on|its?|the|from))*"
            r"(?:\s+(?:horizontal(?:ly)?|vertical(?:ly)?|left (?:to|and) right|top to bottom|"
            r"sideways|axis))+",
            r"flip(?:ped)?|mirrored|espelh(?:e|ar|ad[ao])",
        ),
        _flip,
    ),
    Phrase(
        re.compile(
            r"(?:\b(?:crop(?:ped)?|cut|trim|corte|cortar)\b[^,;.!?⟦⟧0-9]{0,30}?)?"
            r"\b(?P<width>\d{1,2})\s?[:/x×]\s?(?P<height>\d{1,2})\b(?:\s(?:format|crop|ratio))?"
        ),
        _crop,
    ),
    Phrase(
        _words(
            r"(?:crop|cut|trim)(?:ped)?\b[^,;.!?⟦⟧]{0,20}\b(?:square|quadrad[oa])",
            r"square (?:crop|format|picture|image|photo)",
        ),
        _crop_to(1, 1),
    ),
    Phrase(_words(r"(?:widescreen|cinemascope)(?: format)?"), _crop_to(16, 9)),
    Phrase(_words(r"panorama|panoramic(?: format)?"), _crop_to(21, 9)),
    _effect(Effect.MORE_COLOUR, r"(?:more )?(?:vivid|vibrant|saturat(?:ed|e)|punchy|viv[oa])"),
    _effect(
        Effect.LESS_COLOUR, r"(?:more )?(?:muted|desaturat(?:ed|e)|pastel|washed[\s-]out|faded)"
    ),
    _effect(
        Effect.MORE_CONTRAST,
        r"(?:(?:increase|more|add|boost|raise|higher|high|stronger|mais)[\s-](?:the )?)?"
        r"contrast(?:y|e)?",
        r"punchier",
    ),
    _effect(
        Effect.VIGNETTE,
        r"(?:an? )?vignett(?:e|ing)|(?:uma )?vinheta|dark(?:er|ened)? (?:edges|corners)",
    ),
    _effect(Effect.GRAIN, r"(?:film |photo(?:graphic)? )?(?:grain(?:y)?|noise|noisy)|granulad[oa]"),
    _effect(Effect.EMBOSS, r"emboss(?:ed|ing)?|relief"),
    _effect(Effect.GLOW, r"(?:an? )?(?:soft )?(?:glow(?:ing|y)?|bloom)|dream(?:y|like)|ethereal"),
    _effect(
        Effect.WARMER,
        r"(?:more )?warm(?:er|th)?(?: (?:light|tones?|colou?rs))?|(?:mais )?quente|autumn(?:al)?",
    ),
    _effect(
        Effect.COOLER,
        r"(?:more )?(?:cool(?:er)?|cold(?:er)?|icy|chill(?:y|ier))(?: (?:light|tones?|colou?rs))?",
        r"(?:mais )?fri[oa]",
    ),
    _effect(
        Effect.BRIGHTER,
        r"(?:(?:increase|more|raise|boost|up) (?:the )?)?(?:bright(?:er|en|ness)?|exposure)",
        r"lighter|lighten|more light|mais clar[oa]|clarear|clareie|brighten(?:ed)? up",
    ),
    _effect(
        Effect.DARKER,
        r"(?:more )?(?:dark(?:er|en)?|dim(?:mer)?|mais escur[oa]|escure(?:cer|ça)|moody|moodier)",
    ),
    _effect(
        Effect.MORE_COLOUR,
        r"(?:increase|more|raise|boost) (?:the )?(?:colou?rs?|saturation|vibrance)",
        r"colou?rful|saturation|vibrance|satura[cç][aã]o",
    ),
    _effect(Effect.LESS_COLOUR, r"pal(?:e|er)|subdued"),
    _effect(
        Effect.SHARPEN,
        r"sharp(?:er|en|ened|ness)?|crisp(?:er)?|clearer|more (?:detail|clarity|sharpness)",
        r"n[ií]tid[oa]",
    ),
    _effect(
        Effect.BLUR,
        r"blur(?:red|ry|rier)?|soft(?:en|er|ened)|soft focus|out of focus|defocus(?:ed)?",
        r"smooth(?:er|en)?|desfo(?:car|que|cad[oa])",
    ),
)

EDITS_ONLY: Final[tuple[Phrase, ...]] = (
    Phrase(
        _words(
            r"(?:(?:in|into|as|make|create|to) )?(?:an? )?(?:photo |picture )?"
            r"(?:collage|mosaic|montage|contact sheet|grid)",
            r"(?:combine|join|colagem|side[\s-]by[\s-]side|"
            r"put (?:them|these|both|all)[^,;.!?⟦⟧]{0,12} together)"
            rf"{_TOGETHER}",
        ),
        _gather(Arrangement.COLLAGE),
    ),
    Phrase(
        _words(
            r"(?:blend|merge|mix|overlay|superimpose|fuse|double[\s-]exposure)"
            rf"{_TOGETHER}",
        ),
        _gather(Arrangement.BLEND),
    ),
    Phrase(_words(r"square|quadrad[oa]"), _crop_to(1, 1)),
    Phrase(_words(r"(?:portrait|vertical|upright) (?:format|crop|orientation)"), _crop_to(3, 4)),
    Phrase(_words(r"(?:landscape|horizontal) (?:format|crop|orientation)"), _crop_to(4, 3)),
    Phrase(
        _words(
            r"zoom(?:ed)?(?: it)?(?: in)?|closer(?: in)?",
            r"crop(?:ped)?(?: it)?(?: (?:in|tighter|closer))?",
        ),
        lambda _match, _quotes: Zoom(),
    ),
    Phrase(_words(r"mirror(?: (?:it|this|image))?"), lambda _match, _quotes: Flip()),
    _effect(
        Effect.SUNSET,
        r"(?:(?:like|at|in|as)(?: an?| the)? )?"
        r"(?:sunset|sunrise|golden[\s-]hour|dusk|dawn|pôr do sol)"
        r"(?: (?:light|sky|mood|look|colou?rs))?",
    ),
    _effect(
        Effect.NIGHT,
        r"(?:(?:like|at|in|to|into|as)(?: an?| the)? )?(?:night(?:[\s-]?time)?|midnight|moonlight|"
        r"moonlit|noite)(?: (?:scene|mood|look))?",
    ),
    _effect(Effect.LESS_CONTRAST, r"(?:more )?(?:flat(?:ter)?|low[\s-]key)"),
    _effect(Effect.FOG, r"(?:some )?(?:fog(?:gy)?|haz[ey]|mist(?:y)?|neblina|n[eé]voa)"),
    _effect(
        Effect.SNOW, r"(?:some )?(?:falling )?(?:snow(?:y|ing|fall|flakes)?|neve|wint(?:er|ry))"
    ),
    _effect(Effect.RAIN, r"(?:some )?(?:falling )?(?:rain(?:y|ing|drops)?|chuva)"),
    Phrase(
        _words(
            rf"(?:an? )?(?:more )?({COLOUR_WORDS})(?:ish)?(?: (?:tint(?:ed)?|tones?|ton(?:ed|ing)|"
            r"cast|wash|light|mood|colou?r|filter|overlay|look))?",
            r"tint(?:ed|e)?(?: (?:it|this|the|whole|picture|image|photo|in|a|with))* "
            rf"({COLOUR_WORDS})",
        ),
        _tint,
    ),
)
