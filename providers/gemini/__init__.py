"""Google's Gemini API: its models' words (`wire.py`), and what it says when it fails
(`failures.py`).
"""
