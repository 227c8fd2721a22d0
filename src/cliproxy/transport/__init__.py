"""Performs HTTP."""
