"""Mutated responses: what providers answer, with a few things changed.

The same seed makes the same answers. Nothing here knows whether a client still finds the image.
"""

import copy
import json
import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.simulators.canned_responses import Answer, Exchange, link_to
from tests.simulators.envelopes import put_in_envelope
from tests.simulators.pictures import picture

_NAN: Final = float("nan")
_ODD: Final[tuple[Any, ...]] = (
    *(
        None,
        "",
        "words",
        "\ud83d",
        "x \udfff y",
        "\U0001f44d",
        "7",
        "NaN",
        "null",
        "STOP",
        "failed",
    ),
    *(0, -1, 1, 1.5, 2**31, 2**63, 10**20, _NAN, float("inf"), True, False),
    *([], {}, [None], {"a": None}, [[]], [{}], "http://127.0.0.1:9/a.png", "data:,x", "=" * 9),
)
"""Values that may occur anywhere."""
_NAMES: Final = (
    *("note", "usage", "warning", "type", "data", "url", "images", "image", "output", "status"),
    *("logs", "text", "thought", "error", "message", "id", "seed", "b64_json", "parts", "index"),
    *("\ud83d", "", "a b", "revised_prompt", "finishReason", "has_nsfw_concepts", "description"),
)
_CAMEL: Final = re.compile(r"(?<=[a-z])([A-Z])")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_BASE64_LENGTH: Final = 200
"""Strings of this length are pictures, whatever has been done to them."""

Value = Any


@dataclass(frozen=True, slots=True)
class Mutated:
    """An exchange, whether a stream was requested, and what was changed."""

    number: int
    exchange: Exchange
    is_streamed: bool
    changes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes the exchanges of one provider."""

    provider: str
    url: str
    """Of the files, which answers name."""
    seed: str

    def make(self, number: int) -> Mutated:
        rng = Random(f"{self.seed} {self.provider} {number}")
        is_streamed = self.provider in _STREAMS and rng.random() < 0.5
        if self.provider in _STREAMS:
            values = (_STREAMS if is_streamed else _WHOLE)[self.provider](rng, number)
        else:
            values = _JOBS[self.provider](rng, number, self.url)
        polls = 1
        if self.provider in _JOBS and rng.random() < 0.3:
            values.insert(1, _in_another_state(values[1], rng))
            polls = 2
        changes = [_change(values, rng) for _ in range(rng.choice((1, 1, 2, 3, 5)))]
        if self.provider in _STREAMS:
            write = _write_events if is_streamed else _write_whole
            exchange = Exchange(submission=write(values, rng, changes))
        else:
            written = [_write_whole([one], rng, changes) for one in values]
            status, result = written[1 : 1 + polls], written[1 + polls :]
            exchange = Exchange(submission=written[0], status=status, result=result or status)
        return Mutated(number, exchange, is_streamed, tuple(changes))

    def make_error(self, number: int) -> Mutated:
        """An error in the words of all providers, as the answer to a submission or to a poll."""
        rng = Random(f"{self.seed} error {self.provider} {number}")
        values = [copy.deepcopy(_ERROR) | {"id": f"exchange-{number}"}]
        changes = [_change(values, rng) for _ in range(rng.choice((1, 2, 3, 5)))]
        written = _write_whole(values, rng, changes)
        status = str(rng.choice((200, 400, 401, 403, 404, 409, 422, 429, 500, 502, 503, 529)))
        # That of the answer itself: hints may come before it.
        error = _STATUS.sub(rf"\g<1>{status}".encode(), written, count=1)
        if self.provider in _STREAMS or rng.random() < 0.5:
            return Mutated(number, Exchange(submission=error), False, (status, *changes))
        good = [_write_whole([one], Random(0), []) for one in _JOBS[self.provider](rng, number, "")]
        exchange = Exchange(submission=good[0], status=[error], result=[error])
        return Mutated(number, exchange, False, (status, *changes))


_STATUS: Final = re.compile(rb"^(HTTP/1\.[01] )[2-5]\d\d", re.MULTILINE)
_ERROR: Final[dict[str, Value]] = {
    "error": {
        "code": 400,
        "message": "It failed.",
        "type": "server_error",
        "param": "prompt",
        "status": "INVALID_ARGUMENT",
        "details": [
            {"reason": "API_KEY_INVALID", "retryDelay": "1s", "violations": [{"quotaId": "x"}]}
        ],
        "metadata": {"error_type": "server", "reasons": ["x"], "availability": {"code": "x"}},
        "availability": {"code": "capacity_exhausted", "retry_after": 1},
        "inner_error": {"code": "x", "content_filter_results": {"hate": {"filtered": False}}},
    },
    "detail": [{"loc": ["body", "prompt"], "msg": "flagged", "type": "value_error", "ctx": {}}],
    "error_type": "bad_request",
    "title": "Bad",
    "status": "failed",
    "code": 400,
    "message": "It failed.",
    "choices": [{"finish_reason": "error", "message": {}}],
    "data": {"id": "x", "status": "failed", "error": "It failed.", "code": 1400, "outputs": None},
    "promptFeedback": {"blockReason": "OTHER", "blockReasonMessage": "Not that."},
    "usageMetadata": {"promptTokenCount": 5},
}


def picture_of(number: int, index: int = 0) -> bytes:
    """An inline picture."""
    return picture(f"exchange {number}, picture {index}")


def _text_of(number: int, index: int = 0) -> str:
    return b64encode(picture_of(number, index)).decode()


def _images(rng: Random, number: int) -> list[Value]:
    usage = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    usage |= {"prompt_tokens": 10, "completion_tokens": 20}
    count = rng.choice((1, 1, 2, 3))
    data = [
        {"b64_json": _text_of(number, index), "revised_prompt": "A lighthouse"}
        for index in range(count)
    ]
    return [
        {"created": 1, "size": "1024x1024", "output_format": "png", "data": data, "usage": usage}
    ]


def _image_events(rng: Random, number: int) -> list[Value]:
    kind = rng.choice(("image_generation", "image_edit"))
    values: list[Value] = [
        {
            "type": f"{kind}.partial_image",
            "partial_image_index": index,
            "b64_json": b64encode(picture(f"{number} partial {index}")).decode(),
            "created_at": 1,
            "size": "1024x1024",
        }
        for index in range(rng.choice((0, 1, 2)))
    ]
    usage = {"input_tokens": 10, "output_tokens": 20, "total_tokens": 30}
    usage |= {"prompt_tokens": 10, "completion_tokens": 20}
    end = {"b64_json": _text_of(number), "created_at": 1, "created": 1, "size": "1024x1024"}
    return [*values, {"type": f"{kind}.completed", **end, "usage": usage}]


def _router_events(rng: Random, number: int) -> list[Value]:
    values = _image_events(rng, number)
    for event in values:
        event["type"] = event["type"].replace("image_edit", "image_generation")
    return values


def _parts(rng: Random, number: int) -> list[Value]:
    parts: list[Value] = [{"text": "Here it is."}] if rng.random() < 0.5 else []
    if rng.random() < 0.3:
        thought = b64encode(picture(f"{number} thought")).decode()
        parts.append({"thought": True, "inlineData": {"mimeType": "image/png", "data": thought}})
    if rng.random() < 0.2:
        parts.append({"inlineData": {"mimeType": "text/plain", "data": "aGVsbG8="}})
    parts.append(
        {
            "inlineData": {"mimeType": "image/png", "data": _text_of(number)},
            "thoughtSignature": "c2lnbmF0dXJl",
        }
    )
    if rng.random() < 0.2:
        parts.append({"text": "That was it."})
    return parts


_GEMINI_USAGE: Final = {"promptTokenCount": 5, "candidatesTokenCount": 7, "totalTokenCount": 12}


def _candidate(parts: list[Value]) -> dict[str, Value]:
    return {
        "candidates": [{"content": {"role": "model", "parts": parts}, "index": 0}],
        "usageMetadata": dict(_GEMINI_USAGE),
        "modelVersion": "simulated",
        "responseId": "r1",
    }


def _gemini(rng: Random, number: int) -> list[Value]:
    values = _candidate(_parts(rng, number))
    values["candidates"][0]["finishReason"] = "STOP"
    return [values]


def _gemini_events(rng: Random, number: int) -> list[Value]:
    values = [_candidate([part]) for part in _parts(rng, number)]
    if rng.random() < 0.5:
        values.append(_candidate([]))
    # It may be said early, and more than once.
    for event in values[rng.randrange(len(values)) :]:
        event["candidates"][0]["finishReason"] = "STOP"
    return values


def _fal(rng: Random, number: int, url: str) -> list[Value]:
    job_id = f"exchange-{number}"
    root = f"{url}/fal-ai/gemini-25-flash-image/requests/{job_id}"
    urls = {"response_url": root, "status_url": f"{root}/status", "cancel_url": f"{root}/cancel"}
    images = [
        {"url": link_to(url, number, index), "width": 64, "content_type": "image/png"}
        for index in range(rng.choice((1, 1, 2)))
    ]
    result: Value = {"images": images, "seed": 7, "description": "A lighthouse", "timings": {}}
    if rng.random() < 0.2:
        result = {"image": images[0], "seed": 7}
    return [
        {"request_id": job_id, "status": "IN_QUEUE", "queue_position": 0, **urls},
        {"status": "COMPLETED", "request_id": job_id, "logs": None, "metrics": {}, **urls},
        result,
    ]


def _replicate(rng: Random, number: int, url: str) -> list[Value]:
    links = [link_to(url, number, index) for index in range(rng.choice((1, 1, 2)))]
    job: dict[str, Value] = {
        "id": f"exchange-{number}",
        "model": "black-forest-labs/flux-schnell",
        "version": "v",
        "input": {"prompt": "A lighthouse"},
        "error": None,
        "logs": " 43%|###",
        "metrics": {},
        "urls": {"get": "", "cancel": ""},
        "created_at": "2026-11-20T10:00:00Z",
    }
    output = links[0] if rng.random() < 0.3 else links
    started, ended = {"status": "starting", "output": None}, {"status": "succeeded"}
    return [{**copy.deepcopy(job), **started}, {**job, **ended, "output": output}]


def _wavespeed(rng: Random, number: int, url: str) -> list[Value]:
    links = [link_to(url, number, index) for index in range(rng.choice((1, 1, 2)))]
    job: dict[str, Value] = {
        "id": f"exchange-{number}",
        "model": "google/imagen3",
        "error": "",
        "timings": {},
        "has_nsfw_contents": [False] * len(links),
        "created_at": "2026-11-20T10:00:00Z",
    }
    started = {"outputs": [], "status": "created"}
    ended = {"outputs": links, "status": "completed"}
    return [
        {"code": 200, "message": "success", "data": {**copy.deepcopy(job), **state}}
        for state in (started, ended)
    ]


_STATES: Final = (
    *("queued", "pending", "processing", "IN_PROGRESS", "in_queue", "starting", "Running"),
    *("archived", "being brushed", "", None, 7),
)


def _in_another_state(ended: Value, rng: Random) -> Value:
    """A job at an earlier poll, in a state that may be unknown, and without images."""
    earlier = copy.deepcopy(ended)
    job = earlier.get("data", earlier)
    job["status"] = rng.choice(_STATES)
    for name in ("output", "outputs"):
        if name in job:
            job[name] = None
    return earlier


_WHOLE: Final[dict[str, Callable[[Random, int], list[Value]]]] = {
    **dict.fromkeys(("openai", "azure", "openrouter"), _images),
    "gemini": _gemini,
}
_STREAMS: Final[dict[str, Callable[[Random, int], list[Value]]]] = {
    **dict.fromkeys(("openai", "azure"), _image_events),
    "openrouter": _router_events,
    "gemini": _gemini_events,
}
_JOBS: Final[dict[str, Callable[[Random, int, str], list[Value]]]] = {
    "fal": _fal,
    "replicate": _replicate,
    "wavespeed": _wavespeed,
}


# Changes of values, in place. Each takes a place: a container, and a key or index in it.


def _places(value: Value) -> Iterator[tuple[Value, Any]]:
    if isinstance(value, dict | list):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield value, key
            yield from _places(value[key])


def _change(values: list[Value], rng: Random) -> str:
    """Change something; return what was changed."""
    change = rng.choice(_CHANGES)
    places = [place for place in _places(values) if change.fits(place[0][place[1]], place[0])]
    if places:
        container, key = rng.choice(places)
        change.apply(container, key, rng)
        return f"{change.name} at {key!r}"
    return f"{change.name} nowhere"


@dataclass(frozen=True, slots=True)
class _Change:
    name: str
    fits: Callable[[Value, Value], bool]
    """Takes the value and its container."""
    apply: Callable[[Value, Any, Random], None]


def _is_picture(value: Value) -> bool:
    return isinstance(value, str) and len(value) >= _BASE64_LENGTH


def _is_leaf(value: Value, container: Value) -> bool:
    return not isinstance(value, dict | list) and not _is_picture(value)


def _replace(container: Value, key: Any, rng: Random) -> None:
    container[key] = copy.deepcopy(rng.choice(_ODD))


def _remove(container: Value, key: Any, rng: Random) -> None:
    del container[key]


def _add(container: Value, key: Any, rng: Random) -> None:
    """To an object, a field; to a list, an item."""
    inside, odd = container[key], copy.deepcopy(rng.choice(_ODD))
    if isinstance(inside, list):
        inside.insert(rng.randint(0, len(inside)), odd)
        return
    name = rng.choice(_NAMES)
    inside.setdefault(name, odd)


def _repeat(container: Value, key: Any, rng: Random) -> None:
    container.insert(key, copy.deepcopy(container[key]))


def _wrap(container: Value, key: Any, rng: Random) -> None:
    container[key] = [container[key]]


def _unwrap(container: Value, key: Any, rng: Random) -> None:
    container[key] = container[key][0]


def _change_spelling(container: Value, key: Any, rng: Random) -> None:
    """A number as a text, or the other way round."""
    value = container[key]
    container[key] = str(value) if isinstance(value, int | float) else float(len(value))


def _rename(container: Value, key: Any, rng: Random) -> None:
    """All names of an object in snake_case."""
    inside = container[key]
    for name in list(inside):
        inside[_CAMEL.sub(r"_\1", name).lower()] = inside.pop(name)


def _shuffle(container: Value, key: Any, rng: Random) -> None:
    items = list(container[key].items())
    rng.shuffle(items)
    container[key].clear()
    container[key].update(items)


def _add_extra_field(container: Value, key: Any, rng: Random) -> None:
    """A picture in another base64."""
    text: str = container[key]
    data = text.rstrip("=")
    container[key] = rng.choice(
        (
            data,
            data + "=" * rng.randrange(4),
            text.replace("+", "-").replace("/", "_"),
            data.replace("+", "-").replace("/", "_"),
            "\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
            text + rng.choice(("\n", " ", "\r\n", "\0", "AAAA", "\ud83d")),
            rng.choice((" ", "\n", "\ufeff")) + text,
            text[:99] + rng.choice((" ", ",", "*", "\t")) + text[99:],
            f"data:image/png;base64,{text}",
            text[: rng.randrange(_BASE64_LENGTH, len(text))] if len(text) > _BASE64_LENGTH else "",
            "no picture at all, only words " * 9,
        )
    )


def _retype(container: Value, key: Any, rng: Random) -> None:
    """What a picture says it is."""
    kinds = ("image/jpeg", "IMAGE/PNG", "image/png; a=b", "text/plain", "", None, "application/x")
    container[key] = rng.choice(kinds)


def _interrupt(container: Value, key: Any, rng: Random) -> None:
    """Another event, or another item, in between."""
    other = rng.choice(({}, {"type": "ping"}, {"type": "news", "data": None}, {"note": "\ud83d"}))
    container.insert(key, dict(other))


_CHANGES: Final = (
    _Change("a value is odd", _is_leaf, _replace),
    _Change("a value is odd", lambda value, _: not _is_picture(value), _replace),
    _Change("a value is removed", _is_leaf, _remove),
    _Change("something is added", lambda value, _: isinstance(value, dict | list), _add),
    _Change("something is added", lambda value, _: isinstance(value, dict), _add),
    _Change("an item is repeated", lambda _, container: isinstance(container, list), _repeat),
    _Change("a value is in a list", lambda value, _: not _is_picture(value), _wrap),
    _Change(
        "a list is its item", lambda value, _: isinstance(value, list) and len(value) == 1, _unwrap
    ),
    _Change(
        "a number is a text, or the other way round",
        lambda value, _: isinstance(value, int | float | str) and not _is_picture(value),
        _change_spelling,
    ),
    _Change("names are in snake_case", lambda value, _: isinstance(value, dict), _rename),
    _Change("fields are in another order", lambda value, _: isinstance(value, dict), _shuffle),
    _Change("base64 is written otherwise", lambda value, _: _is_picture(value), _add_extra_field),
    _Change("base64 is written otherwise", lambda value, _: _is_picture(value), _add_extra_field),
    _Change(
        "a picture has another type",
        lambda value, _: isinstance(value, str) and value.startswith("image/"),
        _retype,
    ),
    _Change(
        "something is in between", lambda _, container: isinstance(container, list), _interrupt
    ),
)


# How values are written down.


def _dumped(value: Value, rng: Random, changes: list[str]) -> bytes:
    style = rng.choice(("plain", "plain", "indented", "escaped", "slashes", "bare"))
    changes.append(f"JSON is {style}")
    if style == "indented":
        return json.dumps(value, indent=2).encode()
    if style == "bare":
        # Lone surrogates become bytes that are no text.
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return text.encode("utf-8", "surrogatepass")
    text = json.dumps(value)
    if style == "escaped":
        text = _STRING.sub(_escape, text).replace("=", "\\u003d")
    return (text.replace("/", "\\/") if style == "slashes" else text).encode()


def _escape(string: re.Match[str]) -> str:
    """The same string of JSON, with its first letter by its number."""
    quote, first, rest = string[0][:1], string[0][1], string[0][2:]
    return f"{quote}\\u{ord(first):04x}{rest}" if first.isalnum() else string[0]


def _write_whole(values: list[Value], rng: Random, changes: list[str]) -> Answer:
    """The first value, as a separate response."""
    body = _dumped(values[0] if values else {}, rng, changes)
    text = rng.choice(("", "", "", "BOM", "UTF-16", "blanks"))
    if text == "BOM":
        body = b"\xef\xbb\xbf" + body
    elif text == "UTF-16":
        body = body.decode("utf-8", "replace").encode(rng.choice(("utf-16", "utf-16-be")))
    elif text == "blanks":
        body = b"\r\n\t " + body + b"\n\n"
    kind = rng.choice(("application/json",) * len(_JSON_TYPES) + _JSON_TYPES)
    changes.append(f"as {kind}, {text}")
    return put_in_envelope(body, kind, rng, changes)


_JSON_TYPES: Final = (
    *("application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"),
    *("application/json; charset=iso-8859-1", "application/problem+json", "text/plain", ""),
)
_EVENT_TYPES: Final = (
    *("text/event-stream; charset=utf-8", "text/event-stream;charset=UTF-8", "Text/Event-Stream"),
    *("text/event-stream; charset=iso-8859-1", "text/plain"),
)
_BETWEEN_EVENTS: Final = (
    *(b": wait", b":", b"event: ping\ndata: {}", b"event: ping", b"data:", b"id: 1", b"retry: 5"),
    *(b"retry: soon", b"\n\n", b"event: error\ndata:"),
)
_INSIDE_EVENTS: Final = (b": wait", b":", b"id: 1", b"id", b"retry: 5", b"unknown: field", b"words")


def _write_events(values: list[Value], rng: Random, changes: list[str]) -> Answer:
    end = rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r"))
    data = rng.choice((b"data: ", b"data: ", b"data: ", b"data:"))
    events = [_event(one, data, end, rng, changes) for one in values]
    for _ in range(rng.choice((0, 0, 1, 2))):
        extra = rng.choice(_BETWEEN_EVENTS)
        changes.append(f"{extra!r} in between")
        events.insert(rng.randint(0, len(events)), extra.replace(b"\n", end) + end + end)
    if rng.random() < 0.5:
        events.append(b"data: [DONE]" + end + end)
    body = b"".join(events)
    if rng.random() < 0.1:
        body = b"\xef\xbb\xbf" + body
        changes.append("BOM")
    if rng.random() < 0.15:
        body = body.rstrip(b"\r\n") + rng.choice((b"", end))
        changes.append("no end")
    kind = rng.choice(("text/event-stream",) * len(_EVENT_TYPES) + _EVENT_TYPES)
    changes.append(f"as {kind}, {data!r}, {end!r}")
    return put_in_envelope(body, kind, rng, changes)


def _event(value: Value, data: bytes, end: bytes, rng: Random, changes: list[str]) -> bytes:
    lines = [data + line for line in _dumped(value, rng, changes).split(b"\n")]
    named = isinstance(value, dict) and rng.random() < 0.5
    name = str(value.get("type", "x")).encode("utf-8", "replace") if named else b""
    if named and not re.search(rb"[\r\n]", name):
        # It may also come behind the data.
        lines.insert(rng.choice((0, 0, 0, len(lines))), rng.choice((b"event: ", b"event:")) + name)
    if rng.random() < 0.15:
        extra = rng.choice(_INSIDE_EVENTS)
        changes.append(f"{extra!r} inside")
        lines.insert(rng.randint(1, len(lines)), extra)
    return end.join(lines) + end + end
