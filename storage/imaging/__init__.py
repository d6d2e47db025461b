"""Decoding, checking and encoding images, in threads or in a sandboxed process."""
