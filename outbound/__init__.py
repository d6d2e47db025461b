"""Requests to hosts that users or providers name: only to addresses of the public internet."""
