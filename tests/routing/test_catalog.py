"""From names to accounts."""

import pytest

from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.catalog import Catalog


def account(name: str, *served: str, **options) -> Account:
    rows = tuple(Served(*(text.split("=") if "=" in text else (text, text))) for text in served)
    return Account(name, "p", name, serves=rows, **options)


def found(catalog: Catalog, model: str) -> list[tuple[str, str]] | None:
    route = catalog.find(model)
    return None if route is None else [(one.account.id, one.model) for one in route.candidates]


def test_all_accounts_that_list_a_name_serve_it_in_order():
    catalog = Catalog([account("a", "m"), account("b", "n"), account("c", "m")])

    assert found(catalog, "m") == [("a", "m"), ("c", "m")]


def test_an_alias_leads_to_each_accounts_own_name():
    catalog = Catalog([account("a", "fast=gpt"), account("b", "fast=claude")])

    assert found(catalog, "fast") == [("a", "gpt"), ("b", "claude")]
    assert found(catalog, "gpt") is None


def test_an_account_stands_once_in_a_route():
    catalog = Catalog([account("a", "fast=x", "fast=y")])

    assert found(catalog, "fast") == [("a", "x")]


def test_higher_priorities_come_first():
    catalog = Catalog([account("a", "m"), account("b", "m", priority=5), account("c", "m", priority=-1)])

    assert found(catalog, "m") == [("b", "m"), ("a", "m"), ("c", "m")]
    assert [tier.priority for tier in catalog.find("m").tiers] == [5, 0, -1]


def test_a_prefix_addresses_its_account_alone_and_the_bare_name_all():
    catalog = Catalog([account("a", "m"), account("b", "m", prefix="team")])

    assert found(catalog, "team/m") == [("b", "m")]
    assert found(catalog, "m") == [("a", "m"), ("b", "m")]


def test_unlisted_names_go_to_their_family_and_then_to_whom_takes_any():
    catalog = Catalog([account("any", families=("",)), account("claude", families=("claude-",))])

    assert found(catalog, "claude-9") == [("claude", "claude-9")]
    assert found(catalog, "llama") == [("any", "llama")]


def test_listed_names_never_go_to_families():
    catalog = Catalog([account("a", "claude-1"), account("b", families=("claude-",))])

    assert found(catalog, "claude-1") == [("a", "claude-1")]


def test_families_know_prefixes():
    catalog = Catalog([account("a", families=("claude-",), prefix="team")])

    assert found(catalog, "team/claude-9") == [("a", "claude-9")]
    assert found(catalog, "other/claude-9") is None


@pytest.mark.parametrize("pattern", ["claude-old", "claude-o*", "*old", "*"])
def test_excluded_names_are_served_neither_listed_nor_by_family(pattern):
    listed = Catalog([account("a", "claude-old", excluded=(pattern,))])
    family = Catalog([account("a", families=("claude-",), excluded=(pattern,))])

    assert found(listed, "claude-old") is None
    assert found(family, "claude-old") is None


def test_nobody_serves_an_empty_catalog():
    assert found(Catalog([]), "m") is None
