"""The proxies that an environment names."""

from __future__ import annotations

from collections.abc import Mapping

from cliproxy.providers.base import Proxies


def proxies_of(environment: Mapping[str, str]) -> Proxies:
    """Names in lower case win over those in capitals, also by being empty."""
    named = {name.lower(): value for name, value in environment.items() if name.isupper()}
    named |= {name: value for name, value in environment.items() if name.islower()}
    every = named.get("all_proxy", "")
    exempt = tuple(part for part in named.get("no_proxy", "").split(",") if part.strip())
    return Proxies(named.get("http_proxy", every), named.get("https_proxy", every), exempt)
