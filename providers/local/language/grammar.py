"""Patterns of grammar: quotations, clause boundaries, negations, and words for an amount.

All patterns but the quotations match text in lower case.
"""

import re
from typing import Final

from providers.local.language.operations import Effect

QUOTED: Final = re.compile(
    r"“([^”“]*)[”“]|«([^»]*)»|„([^“”]*)[“”]|\"([^\"]*)\"|‘([^’]*)’(?!\w)|(?<!\w)'([^']+)'(?!\w)"
)
BOUNDARY: Final = re.compile(
    r"[,;!?\n]+|[.:](?=\s|$)|\s[-–—]\s|\b(?:and|then|but|also|plus|while|mas|depois)\b"
)
NEGATION: Final = re.compile(
    r"\b(?:no|not|without|don't|dont|do not|never|avoid|instead of|rather than|sem|não|nao)"
    r"\b[^⟦⟧]{0,20}$"
)
REMOVAL: Final = re.compile(
    r"\b(?:remove|undo|delete|erase|get rid of|take away|tire|remova)\s+"
    r"(?:the |that |this |all |some |of |any |o |a )*$"
)
BEFORE_OPPOSITE: Final = re.compile(
    r"\b(?:less|too(?: much)?|not so|not as|menos|(?:reduce|lower|decrease|drop|diminish|minus)"
    r"(?: (?:the|its|some|overall))*|low)[\s-]+$"
)
OPPOSITES: Final = {
    one: other
    for pair in (
        (Effect.WARMER, Effect.COOLER),
        (Effect.BRIGHTER, Effect.DARKER),
        (Effect.MORE_CONTRAST, Effect.LESS_CONTRAST),
        (Effect.MORE_COLOUR, Effect.LESS_COLOUR),
        (Effect.BLUR, Effect.SHARPEN),
    )
    for one, other in (pair, pair[::-1])
} | {Effect.FOG: Effect.MORE_CONTRAST}

# Words for an amount: the pattern; the amount, or None if it is read as a percentage; and where the
# words stand: before (-1), after (1) or on either side (0).
STRENGTHS: Final[tuple[tuple[re.Pattern[str], float | None, int], ...]] = (
    (re.compile(r"(?:\bby |\bem )?(\d{1,3}(?:\.\d+)?) ?(?:%|per ?cent\b)"), None, 0),
    (re.compile(r"\b(?:just |ever so |very )?(?:slight(?:ly)?|subtl[ey]|faint(?:ly)?)\b"), 0.5, 0),
    (re.compile(r"\b(?:an? )?(?:tiny |little )?(?:bit|little|touch|hint|tad)(?: of)?\b"), 0.5, 0),
    (re.compile(r"\b(?:soft(?:ly)?|gentl[ey]|lightly|somewhat|um pouco|levemente)\b"), 0.5, 0),
    (re.compile(r"\b(?:thin|narrow|fine|light)\s*$"), 0.5, -1),
    (re.compile(r"\b(?:extreme(?:ly)?|maximum|completely|totally|insanely)\b"), 2.2, 0),
    (
        re.compile(r"\b(?:(?:very|really) )?(?:much|strong(?:ly)?|heav(?:y|ily)|super|way)\b"),
        1.6,
        0,
    ),
    (re.compile(r"\b(?:very|really)\b"), 1.6, 0),
    (re.compile(r"\b(?:dramatic(?:ally)?|a lot|lots|intense(?:ly)?|deep(?:ly)?|muito)\b"), 1.6, 0),
    (re.compile(r"\b(?:thick|wide|broad|big|bold)\s*$"), 1.6, -1),
)
