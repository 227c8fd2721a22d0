"""Refreshing, revoking and ageing of tokens, and the settings that make them awkward."""

import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from cliproxy.simulator import Simulator
from cliproxy.simulator.accounts import CLIENT_IDS, GOOGLE_CLIENT_SECRET, Account, Dead

TOKENS = {
    "claude": "/v1/oauth/token",
    "codex": "/oauth/token",
    "gemini": "/token",
    "qwen": "/api/v1/oauth2/token",
}
KINDS = tuple(TOKENS)
ROTATING = ("claude", "codex", "qwen")
EMAIL = "ada@example.com"


def tokens_of(sim, kind, **options):
    members = sim.accounts.issue(kind, EMAIL, **options)
    return members.get("token", members)


def renew(call, kind, refresh, **changes):
    fields = {"grant_type": "refresh_token", "client_id": CLIENT_IDS[kind], "refresh_token": refresh}
    if kind == "gemini":
        fields["client_secret"] = GOOGLE_CLIENT_SECRET
    fields |= changes
    return call("POST", TOKENS[kind], fields) if kind == "claude" else call("POST", TOKENS[kind], form=fields)


def is_alive(sim, kind, token):
    try:
        sim.accounts.check(kind, token)
    except Dead:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_refresh_token_gives_a_new_access_token(sim: Simulator, call, kind):
    old = tokens_of(sim, kind)

    answer = renew(call, kind, old["refresh_token"])

    assert answer.status == 200
    assert answer.json["access_token"] != old["access_token"]
    assert is_alive(sim, kind, answer.json["access_token"])


@pytest.mark.parametrize("kind", ROTATING)
def test_a_rotated_refresh_token_is_dead_at_once(sim: Simulator, call, kind):
    old = tokens_of(sim, kind)["refresh_token"]
    new = renew(call, kind, old).json["refresh_token"]

    again = renew(call, kind, old)

    expected = {
        "claude": (400, "invalid_grant"),
        "codex": (401, {"code": "refresh_token_reused"}),
        "qwen": (400, "invalid_grant"),
    }
    status, error = expected[kind]
    assert again.status == status
    assert again.json["error"] == error if isinstance(error, str) else again.json["error"].items() >= error.items()
    assert renew(call, kind, new).status == 200


@pytest.mark.parametrize("kind", ROTATING)
def test_an_overlapping_one_works_until_the_new_pair_is_used(sim: Simulator, call, kind):
    sim.accounts.rotation = "overlapping"
    old = tokens_of(sim, kind)["refresh_token"]

    lost = renew(call, kind, old).json
    kept = renew(call, kind, old).json
    sim.accounts.check(kind, kept["access_token"])

    assert renew(call, kind, old).status in (400, 401)
    assert renew(call, kind, lost["refresh_token"]).status in (400, 401)
    assert renew(call, kind, kept["refresh_token"]).status == 200


def test_google_keeps_the_refresh_token_and_does_not_repeat_it(sim: Simulator, call):
    old = tokens_of(sim, "gemini")["refresh_token"]

    answers = [renew(call, "gemini", old) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert "refresh_token" not in answers[0].json


def test_qwen_may_keep_it_as_well(sim: Simulator, call):
    sim.accounts.qwen_rotates = False
    old = tokens_of(sim, "qwen")["refresh_token"]

    answers = [renew(call, "qwen", old) for _ in range(2)]

    assert [answer.status for answer in answers] == [200, 200]
    assert "refresh_token" not in answers[0].json


def test_codex_takes_json_to_refresh_and_tells_who_it_is_again(sim: Simulator, call):
    old = tokens_of(sim, "codex")["refresh_token"]
    fields = {"grant_type": "refresh_token", "client_id": CLIENT_IDS["codex"], "refresh_token": old}

    answer = call("POST", TOKENS["codex"], fields)

    assert answer.status == 200
    assert answer.json.keys() >= {"id_token", "refresh_token", "expires_in"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_revoked_account_is_refused_everywhere(sim: Simulator, call, kind):
    tokens = tokens_of(sim, kind)
    other = sim.accounts.issue(kind, "bob@example.com")
    sim.accounts.revoke(EMAIL, kind)

    answer = renew(call, kind, tokens["refresh_token"])

    error = answer.json["error"]
    assert (error["code"] if kind == "codex" else error) in ("invalid_grant", "refresh_token_invalidated")
    assert not is_alive(sim, kind, tokens["access_token"])
    assert is_alive(sim, kind, other.get("token", other)["access_token"])


def test_a_program_can_revoke_its_own_grant_at_openai(sim: Simulator, call):
    tokens = tokens_of(sim, "codex")

    answer = call("POST", "/oauth/revoke", {"token": tokens["refresh_token"], "client_id": CLIENT_IDS["codex"]})

    assert answer.status == 200
    assert renew(call, "codex", tokens["refresh_token"]).json["error"]["code"] == "refresh_token_invalidated"


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_tokens_and_clients_are_refused(sim: Simulator, call, kind):
    refresh = tokens_of(sim, kind)["refresh_token"]

    assert renew(call, kind, "guessed").status in (400, 401)
    assert renew(call, kind, refresh, client_id="somebody").status in (400, 401)
    assert renew(call, kind, "").status == 400
    assert renew(call, kind, refresh).status == 200


def test_lifetimes_are_told_and_kept(sim: Simulator, call):
    sim.accounts.lifetime = 1.5
    tokens = tokens_of(sim, "claude")
    answer = renew(call, "claude", tokens["refresh_token"]).json

    before = is_alive(sim, "claude", answer["access_token"])
    sim.accounts.skew += 1.6

    assert answer["expires_in"] == 1.5
    assert before
    assert not is_alive(sim, "claude", answer["access_token"])


def test_tokens_may_die_earlier_than_was_said(sim: Simulator):
    sim.accounts.early = 28_801

    tokens = tokens_of(sim, "claude")

    assert datetime.fromisoformat(tokens["expired"]) > datetime.now(UTC)
    assert not is_alive(sim, "claude", tokens["access_token"])


def test_access_tokens_can_be_made_to_die_while_the_grant_lives(sim: Simulator, call):
    tokens = tokens_of(sim, "codex")
    sim.accounts.expire(EMAIL)

    assert not is_alive(sim, "codex", tokens["access_token"])
    assert renew(call, "codex", tokens["refresh_token"]).status == 200


def test_a_clock_that_is_ahead_shows_in_the_date(sim: Simulator, call):
    assert "date" not in call("GET", "/v1/projects").headers
    sim.accounts.skew = 7200

    ahead = parsedate_to_datetime(call("GET", "/v1/projects").headers["date"]).timestamp() - time.time()

    assert 7190 < ahead < 7210


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_holds_what_the_go_program_writes(sim: Simulator, kind):
    members = sim.accounts.issue(kind, EMAIL)

    flat = {"access_token", "refresh_token", "last_refresh", "email", "type", "expired"}
    expected = {
        "claude": flat | {"id_token"},
        "codex": flat | {"id_token", "account_id"},
        "qwen": flat | {"resource_url"},
        "gemini": {"token", "project_id", "email", "auto", "checked", "type"},
    }
    assert members.keys() == expected[kind]
    assert (members["type"], members["email"]) == (kind, EMAIL)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_can_be_expired_or_without_a_refresh_token(sim: Simulator, call, kind):
    expired = tokens_of(sim, kind, expired=True)
    fixed = tokens_of(sim, kind, renewable=False)

    until = datetime.fromisoformat(expired["expiry" if kind == "gemini" else "expired"][:26] + "+00:00")
    assert until < datetime.now(UTC)
    assert not is_alive(sim, kind, expired["access_token"])
    assert renew(call, kind, expired["refresh_token"]).status == 200
    assert fixed["refresh_token"] == ""
    assert is_alive(sim, kind, fixed["access_token"])


def test_a_google_file_can_name_a_project(sim: Simulator):
    own = sim.accounts.issue("gemini", EMAIL, project="my-project")
    given = sim.accounts.issue("gemini", "bob@example.com")

    several = sim.accounts.issue("gemini", "eve@example.com", project="one,two")

    assert (own["project_id"], own["auto"]) == ("my-project", False)
    assert several["project_id"] == "one,two"
    assert sim.accounts.find("gemini", "eve@example.com").projects == ("one", "two")
    assert given["auto"]
    assert given["token"]["client_secret"] == GOOGLE_CLIENT_SECRET


def test_who_somebody_is_can_be_said_before(sim: Simulator):
    sim.accounts.add(Account(kind="codex", email=EMAIL, plan="pro"))

    tokens = tokens_of(sim, "codex")

    assert sim.accounts.check("codex", tokens["access_token"])[0].plan == "pro"


def test_ten_thousand_accounts_are_cheap(sim: Simulator):
    start = time.process_time()

    files = [sim.accounts.issue(KINDS[n % 4], f"n{n}@example.com") for n in range(10_000)]

    assert time.process_time() - start < 3
    last = files[-1]
    assert sim.accounts.check("qwen", last["access_token"])[0].email == "n9999@example.com"
