"""Logging in to vendors: where to send a person, what to ask for with the code, and the file that comes of it."""
