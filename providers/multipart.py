"""Forms with files, in parts that are never put together: a file may have many megabytes."""

import secrets
from typing import Final

_BOUNDARY_BYTES: Final = 16
"""So random that no file holds it."""


class Multipart:
    """A `multipart/form-data` body."""

    def __init__(self) -> None:
        self._boundary = secrets.token_hex(_BOUNDARY_BYTES)
        self._parts: list[bytes] = []

    @property
    def content_type(self) -> str:
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def parts(self) -> list[bytes]:
        """In the order in which they are to be sent."""
        return [*self._parts, f"--{self._boundary}--\r\n".encode()]

    def add_field(self, name: str, value: str) -> None:
        self._add(f'name="{name}"', "", value.encode())

    def add_file(self, name: str, data: bytes, *, file_name: str, content_type: str) -> None:
        described = f'name="{name}"; filename="{file_name}"'
        self._add(described, f"content-type: {content_type}\r\n", data)

    def _add(self, described: str, headers: str, value: bytes) -> None:
        """Names and headers are ours, and need no escapes."""
        head = f"--{self._boundary}\r\ncontent-disposition: form-data; {described}\r\n{headers}\r\n"
        self._parts += [head.encode(), value, b"\r\n"]
