"""Paints a scene from subjects and colours."""
