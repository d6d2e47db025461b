"""How a command ends at a terminal or in a pipe: with a sentence and an exit code, never with a
traceback.
"""

import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper

from runtime.lifecycle import FAILED, print_error


def run_main(main: Callable[[list[str]], int]) -> int:
    """Run a command with the arguments of the process. Return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names and reasons may have letters that this terminal does not have.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as it is while a command is imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = FAILED
    # They may come alone, or in the group of a TaskGroup.
    try:
        code = _run(main)
    except* KeyboardInterrupt:
        _end_output()
        print_error("Interrupted.")
    except* BrokenPipeError:
        _end_output()  # Nobody reads on, such as `head`, which has what it needs.
    except* OSError as errors:
        _end_output()
        print_error(f"Cannot write or read: {_first_of(errors)}.")
    return code


def _run(main: Callable[[list[str]], int]) -> int:
    try:
        code = main(sys.argv[1:])
    except SystemExit as end:  # By argparse, after its help or a mistake.
        code = end.code if isinstance(end.code, int) else FAILED
    if sys.stdout is not None:
        # Otherwise what cannot be written is found after everything has ended.
        sys.stdout.flush()
    return code


def _end_output() -> None:
    """Write what was printed before an error, or keep the interpreter from trying it at its end."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())


def _first_of(errors: BaseException) -> BaseException:
    """Groups can be in groups."""
    return _first_of(errors.exceptions[0]) if isinstance(errors, BaseExceptionGroup) else errors
