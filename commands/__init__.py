"""What operators run: `python -m commands.<name>`."""
