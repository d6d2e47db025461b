"""Models that need neither network nor key: plain darkroom work, done with Pillow."""
