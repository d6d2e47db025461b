"""Subscriptions: one change feed for the process, and the updates that its subscribers receive."""
