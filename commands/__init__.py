"""What operators run: `python -m commands.<name>`."""

import signal
import sys

if sys.argv[0] == "-m" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # Python looks for the command now, and imports it next. Until `run_main` takes over, Ctrl-C
    # ends the process at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
