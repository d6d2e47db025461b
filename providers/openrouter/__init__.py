"""OpenRouter's Image API: its wire format (`wire.py`), and its errors (`failures.py`)."""
