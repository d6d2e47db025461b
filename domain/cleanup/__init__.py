"""Deleting what nothing refers to, and comparing the object store with the database."""
