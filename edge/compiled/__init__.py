"""Selections as plain functions: what graphql-core would answer, from the stored document at once.

`selections` finds what is selected, `text` writes a Python function of it, `functions` keeps one
for each class of values, and `operations` runs operations by them. What they do not cover raises
`NotCompilable`, an unusual value raises `UnexpectedValue`: then graphql-core runs the operation.
"""
