"""Carries hints to worker processes through NATS JetStream."""
