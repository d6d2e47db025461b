"""What the middle needs from the outside, as Protocols by purpose.

A port holds only what a service calls.
"""
