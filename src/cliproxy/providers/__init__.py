"""The upstreams, one file each: they describe requests and judge answers."""
