"""Logins and token refreshes as generators: they say what to send, and are sent what was answered."""
