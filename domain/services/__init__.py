"""Use cases: what the product does, on ports only."""
