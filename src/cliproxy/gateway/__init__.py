"""The middle: from an opened request to a finished answer."""
