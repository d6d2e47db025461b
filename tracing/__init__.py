"""Traces for operators, by OpenTelemetry. Nothing of this is imported unless they are enabled."""
