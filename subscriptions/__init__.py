"""What keeps talking: one change feed for the process, and what its listeners are told."""
