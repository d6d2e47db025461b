"""Words to operations."""
