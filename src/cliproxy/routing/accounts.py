"""An upstream account as routing sees it: an identity, a place in line, and the models that it serves."""

from msgspec import Struct


class Served(Struct, frozen=True):
    """One model of one account: callers say `public`, the upstream is told `name`."""

    public: str
    name: str


class Account(Struct, frozen=True):
    """`id` is stable across reloads and restarts and holds no secret; `label` is for people.

    `serves` are its models by name. `families` are name prefixes that it also serves unlisted ("" = any name);
    they are tried only for names that nobody lists. `excluded` are names or patterns with `*`.
    """

    id: str
    provider: str
    label: str
    priority: int = 0
    weight: int = 1
    prefix: str = ""
    serves: tuple[Served, ...] = ()
    families: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
