"""Which account serves a request: accounts, catalog, pool."""
