"""How much memory a process takes, with what libraries take outside of Python's own."""

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


class MemoryGrowth:
    """Of this process, or another one, from here on. Always 0 where there is no /proc."""

    def __init__(self, pid: int | None = None) -> None:
        folder = Path(f"/proc/{pid or 'self'}")
        self._status, clear = folder / "status", folder / "clear_refs"
        if clear.exists():
            clear.write_text("5")  # The peak is counted again from here on.
        self._before = self._bytes_of("VmRSS")

    @property
    def peak(self) -> int:
        return self._bytes_of("VmHWM") - self._before

    def _bytes_of(self, name: str) -> int:
        lines = self._status.read_text().splitlines() if self._status.exists() else []
        return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@contextmanager
def uncollected() -> Iterator[None]:
    """Whatever holds itself stays in memory."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def count_objects(kinds: Collection[type]) -> int:
    """How many there are of exactly these classes."""
    return sum(type(one) in kinds for one in gc.get_objects())
