"""Google's Gemini API: the wire format of its models (`wire.py`), and its errors
(`failures.py`).
"""
