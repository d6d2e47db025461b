"""Forms with files, read as strictly as servers read them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_BOUNDARY: Final = re.compile(r'multipart/form-data; ?boundary="?([\w\'()+,./:=? -]{1,70})"?')
_NAMED: Final = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    data: bytes
    file_name: str | None = None
    content_type: str = "text/plain"


def parts_of(content_type: str, body: bytes) -> Iterator[Part]:
    """Raise ValueError where it is no such form."""
    match = _BOUNDARY.fullmatch(content_type)
    if match is None:
        raise ValueError("no form")
    first, *parts, last = (b"\r\n" + body).split(b"\r\n--" + match[1].encode())
    if first or last.strip() != b"--":
        raise ValueError("a form that is not whole")
    for part in parts:
        head, blank, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        if not blank:
            raise ValueError("a part without an end of its head")
        lines = (line.partition(": ") for line in head.decode().split("\r\n"))
        headers = {name.lower(): value for name, _, value in lines}
        named = dict(_NAMED.findall(headers["content-disposition"]))
        kind = headers.get("content-type", "text/plain")
        yield Part(named["name"], data, named.get("filename"), kind)
