"""Wavespeed: how it is asked (`wire.py`), and what it says when it fails (`failures.py`)."""
