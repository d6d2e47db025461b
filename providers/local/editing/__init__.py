"""Edits images."""
