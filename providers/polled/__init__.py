"""Polled providers: a job is submitted, and asked about by its id until it has ended. How one
differs from the others is its `Dialect`.
"""
