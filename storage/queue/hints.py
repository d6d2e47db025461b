"""A hint as a message in NATS: JSON with a version.

Processes of several versions share one stream during an upgrade. A reader ignores fields that it
does not know, and messages that it cannot read: the sweeper finds their outputs.
"""

from typing import Final

import orjson

from domain.claims import Hint
from domain.ids import parse_entry_id, parse_viewer_id

VERSION: Final = 1


def encode_hint(hint: Hint) -> bytes:
    return orjson.dumps({"version": VERSION, "viewer": hint.viewer_id, "output": hint.output_id})


def parse_hint(message: bytes) -> Hint | None:
    """Read a hint; None if the message is not one of this version."""
    try:
        fields = orjson.loads(message)
    except ValueError:
        return None
    if not isinstance(fields, dict) or fields.get("version") != VERSION:
        return None
    viewer, output = fields.get("viewer"), fields.get("output")
    if not isinstance(viewer, str) or not isinstance(output, str):
        return None
    viewer_id, output_id = parse_viewer_id(viewer), parse_entry_id(output)
    return Hint(viewer_id, output_id) if viewer_id and output_id else None
