"""Working on images."""
