"""What a simulated provider of one call does, in words such as `answer=503x1 images=2`.

A script stands in a prompt, as `[play …]`, or is given for an endpoint or for words of a prompt. A
fault may be followed by how often it happens: `answer=503x3,drop` is three times 503, then only
dropped lines; without a number it never ends.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from tests.simulators.fal_script import Faults

IN_PROMPT: Final = re.compile(r"\[play ([^\]]*)\]")
ACTS: Final = {
    "deliver": "",
    "limit": "answer=429x1 retry_after=1",
    "stumble": "answer=503x1",
    "lose-answer": "cut=0",
    "hang": "silent",
}
"""Names for what is wanted often."""
_FAULT: Final = re.compile(
    r"([1-5]\d\d(?:html)?|html|empty|nothing|list|drop|huge|words|gzip|broken)(?:x(\d+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    answer: Faults = ()
    """What comes instead of the result."""
    taken: bool = False
    """The picture is made, and billed, although the answer is a fault."""
    retry_after: str = ""
    """Of every 429 and 503: seconds, or a date as `@` and seconds from now."""
    delay: float = 0.0
    """Seconds until the answer begins."""
    slow: float = 0.0
    """Seconds between its pieces."""
    silent: bool = False
    """It is taken and never answered."""
    cut: int | None = None
    """The line is cut after so many bytes of the answer."""
    open: bool = False
    """A stream ends without its end."""
    fail: str = ""
    """The name of the failure that it is answered with."""
    inside: bool = False
    """That failure stands inside of a good answer."""
    block: str = ""
    """Why the prompt is refused."""
    finish: str = ""
    """Why there is no picture."""
    images: int | None = None
    """How many pictures there are, whatever was asked for."""
    partials: int = 0
    """How many come before the result, and are none."""
    text: str = ""
    signature: int = 0
    """The length of what comes along and says nothing to anybody."""
    escaped: bool = False
    """Base64 is written in JSON's long way."""
    garbled: bool = False
    """It is no base64."""
    bytes: int = 0
    """The length of each picture."""


def read_script(text: str) -> Script:
    """Raise ValueError where a word is none of the above."""
    script = Script()
    for word in " ".join(ACTS.get(word, word) for word in text.split()).split():
        name, _, value = word.partition("=")
        if name not in _READERS:
            raise ValueError(f"{word} is no word of a script")
        read: Any = _READERS[name](value)
        script = replace(script, **{name: read})
    return script


def _faults(text: str) -> Faults:
    return tuple(_fault(part) for part in text.split(","))


def _fault(text: str) -> tuple[str, int | None]:
    match = _FAULT.fullmatch(text)
    if match is None:
        raise ValueError(f"{text} is no fault")
    return match[1], int(match[2]) if match[2] else None


def _switch(text: str) -> bool:
    return text in ("", "1", "true")


_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    **dict.fromkeys((field.name for field in fields(Script)), str),
    **dict.fromkeys(("cut", "images", "partials", "signature", "bytes"), int),
    **dict.fromkeys(("delay", "slow"), float),
    **dict.fromkeys(("taken", "silent", "open", "inside", "escaped", "garbled"), _switch),
    "answer": _faults,
}
