"""Traces for operators, by OpenTelemetry. Nothing of this is imported where they want none."""
