"""OpenRouter's Image API: how models are asked through it (`wire.py`), and what it says when it
fails (`failures.py`).
"""
