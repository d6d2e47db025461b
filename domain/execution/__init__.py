"""Running an output: who takes it, how it is run, and what becomes of it."""
