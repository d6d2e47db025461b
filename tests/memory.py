"""How much memory this process takes, with what libraries take outside of Python's own."""

from pathlib import Path
from typing import Final

_CLEAR: Final = Path("/proc/self/clear_refs")
_STATUS: Final = Path("/proc/self/status")


class MemoryGrowth:
    """Of this process from here on. Always 0 where there is no /proc."""

    def __init__(self) -> None:
        if _CLEAR.exists():
            _CLEAR.write_text("5")  # The peak is counted again from here on.
        self._before = _bytes_of("VmRSS")

    @property
    def peak(self) -> int:
        return _bytes_of("VmHWM") - self._before


def _bytes_of(name: str) -> int:
    lines = _STATUS.read_text().splitlines() if _STATUS.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
