"""Makes the parts of a process, for `bootstrap.py`."""
