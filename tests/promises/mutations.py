"""Inputs that no test lists: valid ones, changed as a seed decides."""

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from tests.operations import DELETE, FOLLOW, GALLERY, PROMPTS, RENAME, SEND, START

DOCUMENTS: Final = (
    "{ __typename }",
    "{ viewer { id } models { id label } }",
    "{ __schema { types { name } } }",
    *(DELETE, FOLLOW, GALLERY, PROMPTS, RENAME, SEND, START),
)
_VALUES: Final[Sequence[Any]] = (
    *(
        None,
        True,
        0,
        -1,
        2**31,
        2**53,
        1.5,
        1e300,
        "",
        "x",
        "\x00",
        "\ud800",
        "é" * 50,
        "x" * 5_000,
    ),
    *([], {}, [[]], {"": ""}, {"$gt": ""}, ["x"] * 50),
    *("conv_00000000000000000000000000", "local-ink", "../../etc/passwd", "{{7*7}}", "%00"),
)
_TOKENS: Final = (
    *("{", "}", "(", ")", "[", "]", "!", "$", "@", "...", ":", "=", "|", "&", "#", '"', '"""', ","),
    *("query", "mutation", "subscription", "fragment", "on", "null", "true", "@skip(if: true)"),
    *("__typename", "__schema", "\ufeff", "\u2028", "\x00", "\ud83d", "-0", "1e9", "$input", "é"),
)
_BYTES: Final = b'{}[]":,\\\x00\xff\xc3\xe2\xed\xa0\x80 \n-+eE019tfnu'


def a_document(random: Random) -> str:
    """A document with some of its words changed, moved, repeated or missing."""
    words = random.choice(DOCUMENTS).split(" ")
    for _ in range(random.randint(0, 6)):
        at = random.randrange(len(words) + 1)
        match random.randrange(5):
            case 0:
                words.insert(at, random.choice(_TOKENS))
            case 1:
                del words[at : at + random.randint(1, 4)]
            case 2:
                words[at:at] = words[at : at + 10] * random.randint(1, 20)
            case 3:
                random.shuffle(words) if len(words) < 40 else words.reverse()
            case 4:
                words[at : at + 1] = [random.choice(_TOKENS)] * random.randint(1, 200)
    return " ".join(words)


def some_variables(random: Random, depth: int = 0) -> Any:
    if depth > 4 or random.random() < 0.4:
        return random.choice(_VALUES)
    names = ("input", "id", "after", "first", "title", "userMessage", "options", "x")
    if random.random() < 0.3:
        return [some_variables(random, depth + 1) for _ in range(random.randint(0, 5))]
    return {
        random.choice(names): some_variables(random, depth + 1) for _ in range(random.randint(0, 6))
    }


def parameters(random: Random) -> dict[str, Any]:
    found: dict[str, Any] = {"query": a_document(random)}
    if random.random() < 0.7:
        found["variables"] = some_variables(random)
    for name in ("operationName", "extensions", "documentId"):
        if random.random() < 0.2:
            found[name] = some_variables(random, 3)
    if random.random() < 0.05:
        del found["query"]
    return found


def damaged(random: Random, data: bytes) -> bytes:
    """The same with some bytes changed, or cut, or doubled."""
    found = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(found) + 1)
        match random.randrange(4):
            case 0:
                found[at : at + 1] = bytes([random.choice(_BYTES)])
            case 1:
                del found[at : at + random.randint(1, 40)]
            case 2:
                found[at:at] = found[: random.randint(1, 200)]
            case 3:
                found[at:at] = bytes([random.choice(_BYTES)]) * random.randint(1, 400)
    return bytes(found)


def a_body(random: Random) -> bytes:
    body = encode(parameters(random))
    return damaged(random, body) if random.random() < 0.5 else body


def a_message(random: Random) -> bytes:
    """What may be said on a socket."""
    kinds = ("subscribe",) * 6 + ("complete", "ping", "pong", "connection_init", "x", "", None, 7)
    message: dict[str, Any] = {
        "type": random.choice(kinds),
        "id": random.choice(("1", "2", "", "x" * 65, 7, None)),
    }
    if random.random() < 0.8:
        message["payload"] = parameters(random) if random.random() < 0.8 else some_variables(random)
    body = encode(message)
    return damaged(random, body) if random.random() < 0.3 else body


def some_frames(random: Random, frame: Callable[[int, bytes], bytes]) -> bytes:
    """Frames of a message, whole or in pieces, some of them damaged."""
    body, frames = a_message(random), b""
    pieces = random.choice((1, 1, 1, 2, 5))
    size = len(body) // pieces + 1
    for number in range(pieces):
        kind = (0x1 if number == 0 else 0x0) | (0x80 if number == pieces - 1 else 0)
        frames += frame(kind, body[number * size : (number + 1) * size])
        if random.random() < 0.1:
            frames += frame(0x80 | random.choice((0x8, 0x9, 0xA, 0x3, 0xF)), body[:100])
    return damaged(random, frames) if random.random() < 0.2 else frames


def encode(value: object) -> bytes:
    return json.dumps(value).encode()
