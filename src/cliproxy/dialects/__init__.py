"""The wire dialects, one file each, both directions."""
