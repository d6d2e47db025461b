"""fal: its queue's protocol (`jobs.py`), what its models are sent (`wire.py`), what its errors
mean (`failures.py`).
"""
