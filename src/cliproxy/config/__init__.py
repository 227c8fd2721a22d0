"""The configuration file: its schema, its YAML, its secrets."""
