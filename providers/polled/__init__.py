"""Providers whose jobs are predictions: one object, asked for by its id until it is over.

What they share is here; in what one differs is its `Dialect`.
"""
