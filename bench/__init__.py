"""Measurements: ratios between things run side by side on the same machine, in the same minute."""
