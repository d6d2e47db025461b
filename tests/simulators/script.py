"""What a simulated job does, in words such as `submit=503x1 seconds=2 images=3`.

A script stands in a prompt, as `[fal …]` for fal, or is given for an endpoint or for words of a
prompt. A fault is named by `_FAULT`, and may be followed by how often it happens:
`status=502x3,drop` is three times 502, then only dropped lines; without a number it never ends.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, TypeAlias

Faults: TypeAlias = tuple[tuple[str, int | None], ...]

ACTS: Final = {
    "deliver": "",
    "refuse": "fail=content_policy_violation",
    "limit": "submit=429x1 retry_after=1",
    "stumble": "submit=503x1",
    "hang-in-queue": "hang=queue",
    "hang-running": "hang=running",
    "lose-answer": "cut=0",
    "never-answer": "silent",
    "blacken": "black=all",
    "truncate": "file=short",
}
"""Names of common scripts."""
_FAULT: Final = re.compile(
    r"([1-5]\d\d(?:html|in200)?|html|svg|empty|nothing|list|detail|drop|silent|huge|gzip|broken|strange"
    r"|short|hop|hops|loop|across)(?:x(\d+))?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """The submission, the queue, the job's end, its result and its files, in this order."""

    submit: Faults = ()
    taken: bool = False
    """The submission is taken although it is answered with a fault."""
    names: bool = False
    """The answer to the submission names the job, also where it is a fault: fal's in its head,
    Wavespeed's in its body.
    """
    retry_after: str = ""
    """Of every 429 and 503: seconds, or a date as `@` and seconds from now."""
    delay: float = 0.0
    """Seconds until the submission is answered."""
    silent: bool = False
    """It is taken and never answered."""
    cut: int | None = None
    """The connection is cut after this many bytes of the response."""
    urls: str = ""
    """The answer's addresses: `none`, `full` as in fal's samples, or those of another host."""
    status: Faults = ()
    queue: float = 0.0
    """Seconds until the job is started."""
    position: int = 0
    """How many are before it at first."""
    seconds: float | None = None
    """How long it runs."""
    hang: str = ""
    """`queue` or `running`: it never gets any further."""
    stubborn: bool = False
    """Once it runs it cannot be cancelled."""
    quiet: bool = False
    """Its status does not tell that it has failed."""
    fail: str = ""
    """The type of the error that it ends with."""
    result: Faults = ()
    images: int | None = None
    """How many pictures it makes, whatever was requested."""
    black: str = ""
    """`all`, or the indexes of those that are withheld, such as `0,2`."""
    one: bool = False
    """The result has one `image` instead of `images`."""
    bare: bool = False
    """Images without links."""
    inside: bool = False
    """Pictures inside of the result, as `data:` links."""
    link: str = ""
    """Where the pictures are said to be."""
    text: str = ""
    seed: int | None = None
    file: Faults = ()
    """Of each picture. One that comes inside of an answer is `html`, `svg`, `short` or `empty`."""
    bytes: int = 0
    """The length of each file."""
    path: str = ""
    """A file that is delivered in the place of each picture."""
    shape: str = ""
    """How a prediction's output is written down; see `tests/simulators/replicate.py`."""
    state: str = ""
    """What a prediction's state is called while it runs."""
    removed: bool = False
    """The output was there, and has been deleted."""
    partials: int | None = None
    """How many partial pictures a stream has, whatever was requested."""
    late: bool = False
    """It fails only after its answer has begun, inside of a success."""
    early: bool = False
    """A stream ends before its picture."""
    signature: int = 0
    """The length of the opaque data that comes with a picture."""
    escaped: bool = False
    """Base64 is written in JSON's long way."""
    garbled: bool = False
    """It is no base64."""
    plain: bool = False
    """A requested stream is sent as one response."""


def read_script(text: str, *, base: Script | None = None) -> Script:
    """Raise ValueError where a word is none of the above."""
    script = base or Script()
    for word in text.split():
        if word in ACTS:
            script = read_script(ACTS[word], base=script)
            continue
        name, _, value = word.partition("=")
        name = name.replace("-", "_")
        if name not in _READERS:
            raise ValueError(f"{word} is no word of a script")
        read: Any = _READERS[name](value)
        script = replace(script, **{name: read})
    return script


@dataclass(slots=True)
class Rule:
    """What jobs do that have no script in their prompts."""

    text: str
    endpoint: str | None = None
    words: str | None = None
    """Of the prompt."""
    times: int | None = None
    """How many jobs it is still for; None for all."""

    def applies(self, endpoint: str, prompt: str) -> bool:
        """Called once for each job."""
        fits = self.endpoint in (None, endpoint) and (self.words is None or self.words in prompt)
        if not fits or self.times == 0:
            return False
        if self.times is not None:
            self.times -= 1
        return True


def in_prompt(provider: str) -> re.Pattern[str]:
    """Finds the script for a provider's simulator in a prompt."""
    return re.compile(rf"\[{provider} ([^\]]*)\]")


def fault_at(faults: Faults, count: int) -> str:
    """The fault of the call with this number, from 0; empty where it goes well."""
    for fault, times in faults:
        if times is None or count < times:
            return fault
        count -= times
    return ""


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
    **dict.fromkeys(("submit", "status", "result", "file"), _faults),
    **dict.fromkeys(("cut", "position", "images", "seed", "bytes", "partials", "signature"), int),
    **dict.fromkeys(("delay", "queue", "seconds"), float),
    **dict.fromkeys(("taken", "names", "silent", "stubborn", "quiet", "one", "bare"), _switch),
    **dict.fromkeys(("inside", "removed", "late", "early", "escaped", "garbled", "plain"), _switch),
}
