"""Polled providers: a job is submitted, and its status requested by its id until it has ended. The
differences between them are in a `Dialect`.
"""
