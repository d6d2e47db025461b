"""Reads presigned forms (`multipart/form-data`) as they arrive: their fields, then their file.

What must stay true: of a form, its fields and the latest part of its body are in memory, and no
more.
"""

from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

FORM_BYTES: Final = 16 * 1024
"""The bytes of a form besides its file."""
_FILE: Final = "file"
_MAX_FIELDS: Final = 16


class InvalidForm(ValueError):
    """The body is not a form, or one with too many fields or files."""


class UploadForm:
    """A form whose body is fed in parts."""

    def __init__(self, content_type: str) -> None:
        """Raise InvalidForm where this is not the content type of a form."""
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise InvalidForm
        self.fields: dict[str, str] = {}
        """Those that are complete, and come before the file."""
        self.has_file = False
        """Whether a file named `file` has begun."""
        self.is_complete = False
        self._part_count = self._field_bytes = 0
        self._file = list[bytes]()
        self._begin_part()
        try:
            self._parser = self._make_parser(boundary)
        except FormParserError as error:
            raise InvalidForm from error

    def feed(self, data: bytes) -> bytes:
        """Read the next bytes of the body. Return what they have of the file; raise InvalidForm."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidForm from error
        file = b"".join(self._file)
        self._file.clear()
        return file

    def _make_parser(self, boundary: bytes) -> MultipartParser:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_to_name,
                "on_header_value": self._add_to_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def _begin_part(self) -> None:
        self._name: str | None = None
        """Of a field before the file. The data of all other fields is dropped."""
        self._is_file = False
        self._header_name = self._header_value = self._disposition = b""
        self._value = bytearray()

    def _add_to_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_to_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._part_count += 1
        if b"name" not in options or self._part_count > _MAX_FIELDS + 1:
            raise InvalidForm
        name = options[b"name"].decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if not self._is_file:
            self._name = None if self.has_file else name
        elif name != _FILE or self.has_file:
            raise InvalidForm
        else:
            self.has_file = True

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._file.append(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > FORM_BYTES:
            raise InvalidForm
        self._value += data[start:end]

    def _end_part(self) -> None:
        if self._name is not None:
            self.fields[self._name] = self._value.decode("utf-8", "replace")

    def _end(self) -> None:
        self.is_complete = True
