"""Wrong clocks: a process whose clock is shifted, and one whose clock jumps."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.tools import find_tool, need

APART_SECONDS: Final = 300
_LIBRARY: Final = "libfaketimeMT.so.1"
_FOLDERS: Final = ("/usr/lib", "/usr/local/lib", "/usr/lib64")


def can_be_wrong() -> bool:
    return find_tool("faketime") is not None and _library() is not None


def need_wrong_clocks() -> None:
    """Where no clock can be made to go wrong, the test is skipped."""
    need("faketime")
    if _library() is None:
        pytest.skip("needs faketime")


def off_by(seconds: int) -> Mapping[str, str]:
    """The environment of a process whose clock is shifted by this. Its timers run normally."""
    return {**_preloaded(), "FAKETIME": f"{seconds:+d}s"}


def reported_by(file: Path) -> Mapping[str, str]:
    """The environment of a process whose clock is off by what the file says at the moment."""
    return {
        **_preloaded(),
        "FAKETIME_TIMESTAMP_FILE": os.fspath(file),
        "FAKETIME_CACHE_DURATION": "1",
    }


def set_clock(file: Path, *, seconds: int) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(f"{seconds:+d}s\n")
    draft.replace(file)


def _preloaded() -> Mapping[str, str]:
    library = _library()
    assert library is not None
    return {
        "LD_PRELOAD": os.fspath(library),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
        # Else a thread that waits for the interpreter's lock spins instead of sleeping, and takes
        # the processor from the one that holds it.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def _library() -> Path | None:
    found = (path for folder in _FOLDERS for path in Path(folder).glob(f"*/faketime/{_LIBRARY}"))
    return next(found, None) or next(
        (
            Path(folder, "faketime", _LIBRARY)
            for folder in _FOLDERS
            if Path(folder, "faketime", _LIBRARY).exists()
        ),
        None,
    )
