"""Parses instructions into operations, and composes captions."""
