"""Selections as plain functions: what graphql-core would answer, from the stored document at once.

`selections` finds what is selected, `leaves` writes scalars and enums, `functions` makes a Python
function of a selection, `operations` runs an operation by them. Whatever they do not cover, or find
out of the ordinary, raises `Uncovered` or `Surprised`, and the operation is run by graphql-core.
"""
