"""`python -m bench.darkroom FILE`: the real server, with a probe that writes into the file."""

import sys
from pathlib import Path

import providers.rehearsal
import serve
from bench.probe import probe_at_signal
from settings import Settings


def main(path: str) -> int:
    # What is asked of rehearsals only waits: a start is measured without the run of an output.
    vars(providers.rehearsal)["MAX_CONCURRENT_RUNS"] = 0
    original = serve._serve

    async def probed(settings: Settings) -> int:
        probe_at_signal(Path(path))
        return await original(settings)

    serve._serve = probed
    return serve.main()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
