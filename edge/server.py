"""uvicorn without its signal handlers: the process decides in which order things end."""

from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn


class QuietServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's handlers raise each signal again after serving.
        yield

    def end(self) -> None:
        """Stop serving. uvicorn closes WebSockets with 1012."""
        self.should_exit = True
