"""Carries ids of outputs to workers, in this process or over NATS."""
