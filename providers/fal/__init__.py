"""fal: its queue's protocol (`jobs.py`), the wire format of its models (`wire.py`), its errors
(`failures.py`).
"""
