"""Synchronous providers: one call is the whole run. They have no jobs to resume, and a run whose
response is lost may be billed.
"""
