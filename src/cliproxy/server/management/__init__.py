"""The Management API: a table of rows, and what serves it."""
