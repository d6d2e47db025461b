"""Synchronous providers: one call is the whole run. They have no jobs to resume, and a run whose
answer is lost may be billed.
"""
