"""Puts the parts together, for `bootstrap.py`."""
