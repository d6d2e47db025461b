"""fal: its queue's protocol (`jobs.py`), its models' words (`wire.py`), and what it says when it
fails (`failures.py`).
"""
