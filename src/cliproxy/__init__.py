"""CLI Proxy API: one gateway for coding CLIs, over the user's own upstream accounts."""

__version__ = "0.1.0"
