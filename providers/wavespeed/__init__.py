"""Wavespeed: its wire format (`wire.py`), and its errors (`failures.py`)."""
