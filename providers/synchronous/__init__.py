"""Providers of which one call is the whole run. They have no jobs that one could come back to, and
an answer that is lost may be billed.
"""
