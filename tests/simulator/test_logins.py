"""Logging in by code: what the authorization and token endpoints of Claude, Codex and Google take and refuse."""

import base64
import json
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from cliproxy.simulator import Simulator
from cliproxy.simulator.accounts import CLIENT_IDS, GOOGLE_CLIENT_SECRET, SCOPES, digest_of

VERIFIER = "v" * 43
PAGES = {"claude": "/cai/oauth/authorize", "codex": "/oauth/authorize", "gemini": "/o/oauth2/v2/auth"}
TOKENS = {"claude": "/v1/oauth/token", "codex": "/oauth/token", "gemini": "/token"}
REDIRECTS = {
    "claude": "http://localhost:54545/callback",
    "codex": "http://localhost:1455/auth/callback",
    "gemini": "http://127.0.0.1:8085/oauth2callback",
}
VENDORS = tuple(PAGES)


def wish(kind, **changes):
    """The query of an authorization request; None leaves a parameter out."""
    query = {
        "client_id": CLIENT_IDS[kind],
        "redirect_uri": REDIRECTS[kind],
        "response_type": "code",
        "scope": " ".join(SCOPES[kind]),
        "state": "some-state",
        "code_challenge": digest_of(VERIFIER),
        "code_challenge_method": "S256",
    }
    extra = {"claude": {"code": "true"}, "codex": {"prompt": "login"}, "gemini": {"access_type": "offline"}}[kind]
    return {name: value for name, value in {**query, **extra, **changes}.items() if value is not None}


def address(sim: Simulator, kind, **changes):
    return f"{sim.url}{PAGES[kind]}?{urlencode(wish(kind, **changes))}"


def approved(sim: Simulator, kind, email="ada@example.com", **changes):
    location = sim.approve(address(sim, kind, **changes), email=email)
    return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}


def exchange(call, kind, code, **changes):
    fields = {
        "grant_type": "authorization_code",
        "client_id": CLIENT_IDS[kind],
        "code": code,
        "redirect_uri": REDIRECTS[kind],
        "code_verifier": VERIFIER,
    }
    extra = {"claude": {"state": "some-state"}, "codex": {}, "gemini": {"client_secret": GOOGLE_CLIENT_SECRET}}[kind]
    fields = {name: value for name, value in {**fields, **extra, **changes}.items() if value is not None}
    return call("POST", TOKENS[kind], fields) if kind == "claude" else call("POST", TOKENS[kind], form=fields)


def error_of(kind, answer):
    error = answer.json["error"]
    return error["code"] if kind == "codex" else error


def claims(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


@pytest.mark.parametrize("kind", VENDORS)
def test_a_consent_becomes_tokens(sim: Simulator, call, kind):
    told = approved(sim, kind)

    answer = exchange(call, kind, told["code"])

    assert told["state"] == "some-state"
    assert answer.status == 200
    assert answer.json["token_type"] == "Bearer"
    assert answer.json["access_token"] != answer.json["refresh_token"]
    assert answer.json["expires_in"] > 3000
    assert sim.accounts.check(kind, answer.json["access_token"])[0].email == "ada@example.com"


@pytest.mark.parametrize("kind", VENDORS)
def test_a_person_who_says_no_sends_the_browser_back_without_a_code(sim: Simulator, kind):
    location = sim.approve(address(sim, kind), deny=True)

    assert location.startswith(REDIRECTS[kind])
    assert parse_qs(urlsplit(location).query) == {"error": ["access_denied"], "state": ["some-state"]}


@pytest.mark.parametrize("kind", VENDORS)
def test_a_browser_gets_a_page_with_two_buttons_that_posts_to_itself(sim: Simulator, call, kind):
    page = call("GET", address(sim, kind))

    text = page.body.decode()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert '<form method="post">' in text
    assert 'name="answer" value="approve"' in text
    assert 'name="answer" value="deny"' in text


def test_what_a_caller_writes_cannot_become_markup(sim: Simulator, call):
    page = call("GET", address(sim, "claude", scope="<script>"))

    assert b"<script>" not in page.body
    assert b"&lt;script&gt;" in page.body


BAD_WISHES = {
    "no client": ({"client_id": None}, "client_id"),
    "foreign client": ({"client_id": "somebody"}, "invalid_client"),
    "no redirect": ({"redirect_uri": None}, "redirect_uri"),
    "redirect elsewhere": ({"redirect_uri": "https://evil.example/callback"}, "redirect_uri_mismatch"),
    "redirect that is no address": ({"redirect_uri": "http://[/callback"}, "redirect_uri_mismatch"),
    "token in the address": ({"response_type": "token"}, "unsupported_response_type"),
    "unknown scope": ({"scope": "everything"}, "invalid_scope"),
    "no scope": ({"scope": None}, "scope"),
    "no state": ({"state": None}, "state"),
    "plain challenge": ({"code_challenge_method": "plain"}, "S256"),
    "challenge that is no digest": ({"code_challenge": "short"}, "SHA-256"),
}


@pytest.mark.parametrize("kind", VENDORS)
@pytest.mark.parametrize(("changes", "says"), BAD_WISHES.values(), ids=BAD_WISHES)
def test_a_login_that_is_wrong_is_shown_to_the_person(sim: Simulator, call, kind, changes, says):
    page = call("GET", address(sim, kind, **changes))

    assert page.status in (400, 401)
    assert says in page.body.decode()
    with pytest.raises(ValueError, match="HTTP 4"):
        sim.approve(address(sim, kind, **changes))


REDIRECT_RULES = [
    ("claude", "http://localhost:9/callback", True),
    ("claude", "https://console.anthropic.com/oauth/code/callback", True),
    ("claude", "http://localhost:54545/other", False),
    ("claude", "http://127.0.0.1:54545/callback", False),
    ("codex", "http://localhost:1457/auth/callback", True),
    ("codex", "http://localhost:1456/auth/callback", False),
    ("codex", "http://127.0.0.1:1455/auth/callback", False),
    ("gemini", "http://localhost:9/any/path", True),
    ("gemini", "https://codeassist.google.com/authcode", True),
    ("gemini", "http://192.168.0.1:8085/oauth2callback", False),
]


@pytest.mark.parametrize(("kind", "uri", "is_taken"), REDIRECT_RULES)
def test_browsers_are_sent_only_where_the_vendor_would_send_them(sim: Simulator, call, kind, uri, is_taken):
    assert (call("GET", address(sim, kind, redirect_uri=uri)).status == 200) is is_taken


@pytest.mark.parametrize(
    ("kind", "uri", "shown"),
    [
        ("claude", "https://platform.claude.com/oauth/code/callback", "{code}#some-state"),
        ("gemini", "https://codeassist.google.com/authcode", "{code}"),
    ],
)
def test_a_program_without_a_listener_has_the_code_shown(sim: Simulator, call, kind, uri, shown):
    location = sim.approve(address(sim, kind, redirect_uri=uri))
    code = parse_qs(urlsplit(location).query)["code"][0]

    page = call("GET", location)

    assert location.startswith(sim.url)
    assert shown.format(code=code) in page.body.decode()
    assert exchange(call, kind, code, redirect_uri=uri).status == 200


def test_the_ports_of_codex_can_be_others(sim: Simulator, call):
    sim.accounts.codex_ports = frozenset({4000})

    assert call("GET", address(sim, "codex", redirect_uri="http://localhost:4000/auth/callback")).status == 200
    assert call("GET", address(sim, "codex")).status == 400


def test_pkce_is_required_except_by_google_on_the_loopback(sim: Simulator, call):
    bare = {"code_challenge": None, "code_challenge_method": None}

    found = {kind: call("GET", address(sim, kind, **bare)).status for kind in VENDORS}
    shown = call("GET", address(sim, "gemini", redirect_uri="https://codeassist.google.com/authcode", **bare))
    plain = exchange(call, "gemini", approved(sim, "gemini", **bare)["code"], code_verifier=None)

    assert found == {"claude": 400, "codex": 400, "gemini": 200}
    assert shown.status == 400
    assert plain.status == 200


BAD_EXCHANGES = {
    "another client": ({"client_id": "somebody"}, 401, "invalid_client"),
    "another redirect": ({"redirect_uri": "http://localhost:1/callback"}, 400, "redirect_uri_mismatch"),
    "another verifier": ({"code_verifier": "w" * 43}, 400, "invalid_grant"),
    "no verifier": ({"code_verifier": None}, 400, "invalid_request"),
    "no such code": ({"code": "guessed"}, 400, "invalid_grant"),
    "another grant": ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    "no grant": ({"grant_type": None}, 400, "invalid_request"),
}


@pytest.mark.parametrize("kind", VENDORS)
@pytest.mark.parametrize(("changes", "status", "error"), BAD_EXCHANGES.values(), ids=BAD_EXCHANGES)
def test_an_exchange_that_is_wrong_is_refused(sim: Simulator, call, kind, changes, status, error):
    code = approved(sim, kind)["code"]

    answer = exchange(call, kind, **{"code": code, **changes})

    assert (answer.status, error_of(kind, answer)) == (status, error)


@pytest.mark.parametrize("kind", VENDORS)
def test_a_code_is_good_for_one_try(sim: Simulator, call, kind):
    code = approved(sim, kind)["code"]

    statuses = [exchange(call, kind, code).status for _ in range(2)]
    wrong = approved(sim, kind)["code"]
    exchange(call, kind, wrong, code_verifier="w" * 43)

    assert statuses == [200, 400]
    assert exchange(call, kind, wrong).status == 400


def test_a_code_grows_old(sim: Simulator, call):
    code = approved(sim, "claude")["code"]
    sim.accounts.skew += 601

    assert exchange(call, "claude", code).json["error"] == "invalid_grant"


def test_a_code_of_one_vendor_is_nothing_to_another(sim: Simulator, call):
    code = approved(sim, "codex")["code"]

    assert exchange(call, "gemini", code, redirect_uri=REDIRECTS["codex"]).json["error"] == "invalid_grant"


def test_claude_takes_json_with_the_state_and_nothing_else(sim: Simulator, call):
    form = call("POST", TOKENS["claude"], form={"grant_type": "authorization_code"})
    stranger = exchange(call, "claude", approved(sim, "claude")["code"], audience="x")
    state = exchange(call, "claude", approved(sim, "claude")["code"], state="another")

    assert (form.status, stranger.status, state.status) == (415, 400, 400)
    assert "audience" in stranger.json["error_description"]
    assert state.json["error"] == "invalid_grant"


@pytest.mark.parametrize("kind", ["codex", "gemini"])
def test_the_others_take_forms(call, kind):
    answer = call("POST", TOKENS[kind], {"grant_type": "authorization_code", "client_id": CLIENT_IDS[kind]})

    assert answer.status == 400


def test_claude_tells_account_and_organization(sim: Simulator, call):
    answer = exchange(call, "claude", approved(sim, "claude", scope="user:inference")["code"]).json

    assert answer["account"]["email_address"] == "ada@example.com"
    assert answer["organization"].keys() == {"uuid", "name"}
    assert answer["scope"] == "user:inference"
    assert answer["access_token"].startswith("sk-ant-oat")


def test_codex_tells_account_and_plan_in_the_id_token(sim: Simulator, call):
    answer = exchange(call, "codex", approved(sim, "codex")["code"]).json

    told = claims(answer["id_token"])
    openai = told["https://api.openai.com/auth"]
    assert told["email"] == "ada@example.com"
    assert openai["chatgpt_plan_type"] == "plus"
    assert openai["chatgpt_account_id"] == sim.accounts.find("codex", "ada@example.com").id
    assert [row["is_default"] for row in openai["organizations"]] == [True]


def test_codex_gives_no_refresh_token_unless_it_is_asked_for(sim: Simulator, call):
    code = approved(sim, "codex", scope="openid email")["code"]

    assert "refresh_token" not in exchange(call, "codex", code).json


def test_google_wants_its_installed_app_secret(sim: Simulator, call):
    missing = exchange(call, "gemini", approved(sim, "gemini")["code"], client_secret=None)
    wrong = exchange(call, "gemini", approved(sim, "gemini")["code"], client_secret="guess")

    assert (missing.status, missing.json["error_description"]) == (400, "client_secret is missing.")
    assert (wrong.status, wrong.json["error"]) == (401, "invalid_client")


def test_google_gives_a_refresh_token_for_offline_access_on_new_consent_only(sim: Simulator, call):
    def has_refresh(**changes):
        code = approved(sim, "gemini", **changes)["code"]
        return "refresh_token" in exchange(call, "gemini", code).json

    assert not has_refresh(access_type=None)
    assert not has_refresh()
    assert has_refresh(prompt="consent")
    sim.reset()
    assert has_refresh()
