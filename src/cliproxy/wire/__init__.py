"""Bytes and their shapes: JSON envelopes, server-sent events, HTTP messages as values."""
