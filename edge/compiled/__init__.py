"""Selections as plain functions: what graphql-core would answer, from the stored document at once.

`selections` finds what is selected, `text` writes a Python function of it, `functions` keeps one
for each class of values, and `operations` runs operations by them. Whatever they do not cover, or
find out of the ordinary, raises `Uncovered` or `Surprised`, and graphql-core runs the operation.
"""
