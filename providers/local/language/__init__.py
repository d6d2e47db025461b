"""Words to operations, and to captions."""
