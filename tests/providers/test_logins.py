"""The login of each vendor, to the byte: where a person is sent, what is asked for, what is kept."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from cliproxy.config.schema import (
    ClaudeEndpoint,
    CodexEndpoint,
    Config,
    Endpoints,
    GeminiCliEndpoint,
    QwenEndpoint,
)
from cliproxy.oauth.base import Denied, GrantRevoked, Misconfigured, Tokens, Unavailable
from cliproxy.providers.accounts import AccountFile, ClientSecrets, DevicePrompt, new_handshake
from cliproxy.providers.base import USER_AGENT, Proxies
from cliproxy.providers.logins import claude, codex, gemini, qwen
from cliproxy.providers.logins.google_client import client_for, secret_in_javascript
from cliproxy.providers.logins.registry import LOGINS, read_file
from cliproxy.wire.secrets import Secret
from exchanges import UNREACHABLE, Sent, answer, counting_bytes, jwt, play, said, sent

NOW = 1_790_000_000.7
LATER = "2026-09-21T15:13:20Z"
JSON = {"content-type": "application/json", "accept": "application/json", "user-agent": USER_AGENT}
FORM = JSON | {"content-type": "application/x-www-form-urlencoded"}
VERIFIER = (
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v"
    "MDEyMzQ1Njc4OTo7PD0-P0BBQkNERUZHSElKS0xNTk9QUVJTVFVWV1hZWltcXV5f"
)
CHALLENGE = "10vGEdIUs89S5HPKbpL7Zkkl0o0Fu1gaA9ZhyeE_I74"
STATE = "000102030405060708090a0b0c0d0e0f"
PROXIES = Proxies()
OLD = Tokens(access=Secret("access-old"), refresh=Secret("refresh-old"))
SECRETS = ClientSecrets(environment=Secret("google-secret"))


def file_of(kind: str, **more: object) -> AccountFile:
    return AccountFile(name="a.json", kind=kind, **more)


def handshake_of(login):
    return new_handshake(login, login.callback(Config())[1], counting_bytes)


def completed(login, code: str, *script, config: Config = Config(), project: str = "", **more):
    return play(login.complete(config, PROXIES, handshake_of(login), code, project, NOW, **more), *script)


# -- where a person is sent

AUTHORIZE = [
    (
        claude.LOGIN,
        "https://claude.ai/oauth/authorize",
        [
            ("code", "true"),
            ("client_id", "9d1c250a-e61b-44d9-88ed-5944d1962f5e"),
            ("response_type", "code"),
            ("redirect_uri", "http://localhost:54545/callback"),
            ("scope", "org:create_api_key user:profile user:inference"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("state", STATE),
        ],
    ),
    (
        codex.LOGIN,
        "https://auth.openai.com/oauth/authorize",
        [
            ("client_id", "app_EMoamEEZ73f0CkXaXp7hrann"),
            ("response_type", "code"),
            ("redirect_uri", "http://localhost:1455/auth/callback"),
            ("scope", "openid email profile offline_access"),
            ("state", STATE),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("prompt", "login"),
            ("id_token_add_organizations", "true"),
            ("codex_cli_simplified_flow", "true"),
        ],
    ),
    (
        gemini.LOGIN,
        "https://accounts.google.com/o/oauth2/v2/auth",
        [
            ("client_id", GeminiCliEndpoint().client_id),
            ("redirect_uri", "http://localhost:8085/oauth2callback"),
            ("response_type", "code"),
            (
                "scope",
                "https://www.googleapis.com/auth/cloud-platform https://www.googleapis.com/auth/userinfo.email "
                "https://www.googleapis.com/auth/userinfo.profile",
            ),
            ("access_type", "offline"),
            ("prompt", "consent"),
            ("state", STATE),
        ],
    ),
]


@pytest.mark.parametrize(("login", "address", "query"), AUTHORIZE, ids=["claude", "codex", "gemini"])
def test_a_person_is_sent_to_the_vendor(login, address, query):
    url = login.authorize_url(Config(), handshake_of(login))

    parts = urlsplit(url)
    assert (f"{parts.scheme}://{parts.netloc}{parts.path}", parse_qsl(parts.query)) == (address, query)
    assert "+" not in parts.query


def test_addresses_clients_and_ports_can_be_moved():
    moved = Config(
        endpoints=Endpoints(
            claude=ClaudeEndpoint(authorize_url="http://c/a", client_id="c", callback_host="0.0.0.0", callback_port=1),
            codex=CodexEndpoint(authorize_url="http://o/a", client_id="o", callback_port=2),
            gemini_cli=GeminiCliEndpoint(authorize_url="http://g/a", client_id="g", callback_port=3),
        )
    )

    logins = [login for login in LOGINS if login.channel != "qwen"]
    assert [login.callback(moved) for login in logins] == [("0.0.0.0", 1), ("127.0.0.1", 2), ("127.0.0.1", 3)]
    for login, letter in zip(logins, "cog", strict=True):
        url = login.authorize_url(moved, handshake_of(login))
        assert url.startswith(f"http://{letter}/a?")
        assert f"client_id={letter}&" in url


def test_a_handshake_is_fresh_and_shows_no_verifier():
    handshake = new_handshake(claude.LOGIN, 4000, counting_bytes)

    assert (handshake.state, handshake.verifier) == (STATE, Secret(VERIFIER))
    assert handshake.redirect_uri == "http://localhost:4000/callback"
    assert VERIFIER not in repr(handshake)


# -- Claude

CLAUDE_URL = "https://platform.claude.com/v1/oauth/token"
CONSOLE_URL = "https://console.anthropic.com/v1/oauth/token"
CLAUDE_ANSWER = {
    "access_token": "access-1",
    "refresh_token": "refresh-1",
    "token_type": "Bearer",
    "expires_in": 28800,
    "scope": "user:profile",
    "organization": {"uuid": "o", "name": "n"},
    "account": {"uuid": "u", "email_address": "ann@example.com"},
}


def test_claude_exchanges_a_code_in_json():
    played = completed(claude.LOGIN, "the-code", answer(CLAUDE_ANSWER))

    body = (
        f'{{"code":"the-code","state":"{STATE}","grant_type":"authorization_code",'
        '"client_id":"9d1c250a-e61b-44d9-88ed-5944d1962f5e",'
        f'"redirect_uri":"http://localhost:54545/callback","code_verifier":"{VERIFIER}"}}'
    )
    assert played.steps == [Sent("POST", CLAUDE_URL, JSON, body.encode())]


def test_claude_writes_its_file():
    (new,) = completed(claude.LOGIN, "the-code", answer(CLAUDE_ANSWER)).result

    assert new.name == "claude-ann@example.com.json"
    assert list(new.members.items()) == [
        ("id_token", ""),
        ("access_token", "access-1"),
        ("refresh_token", "refresh-1"),
        ("last_refresh", "2026-09-21T14:13:20Z"),
        ("email", "ann@example.com"),
        ("type", "claude"),
        ("expired", "2026-09-21T22:13:20Z"),
    ]


def test_claude_takes_the_state_that_came_with_the_code():
    (request,) = completed(claude.LOGIN, "the-code#its-state", answer(CLAUDE_ANSWER)).requests

    assert (request.fields["code"], request.fields["state"]) == ("the-code", "its-state")


@pytest.mark.parametrize("account", [None, {}, {"email_address": 7}, "x", {"email_address": " "}])
def test_claude_without_an_address_is_named_by_the_time(account):
    (new,) = completed(claude.LOGIN, "c", answer(CLAUDE_ANSWER | {"account": account})).result

    assert (new.name, new.members["email"]) == ("claude-1790000000700.json", "")


def test_claude_refuses_a_code_in_its_own_words_without_the_code():
    body = {"type": "error", "error": {"type": "invalid_grant", "message": "Invalid 'code': the-code-123"}}

    error = completed(claude.LOGIN, "the-code-123", answer(body, 400)).error

    assert isinstance(error, Denied)
    assert error.told == "invalid_grant: Invalid 'code': [secret]"
    assert "the-code-123" not in said(error)


def test_claude_refreshes_in_json_and_rotates():
    played = play(claude.refresh(file_of("claude"), OLD, Config(), PROXIES), answer(CLAUDE_ANSWER))

    body = (
        b'{"client_id":"9d1c250a-e61b-44d9-88ed-5944d1962f5e","grant_type":"refresh_token",'
        b'"refresh_token":"refresh-old"}'
    )
    assert played.steps == [Sent("POST", CLAUDE_URL, JSON, body)]
    assert played.result == Tokens(
        access=Secret("access-1"),
        refresh=Secret("refresh-1"),
        lifetime=28800.0,
        extra={"email": "ann@example.com"},
    )


def test_claude_keeps_what_a_refresh_leaves_out():
    tokens = play(claude.refresh(file_of("claude"), OLD, Config(), PROXIES), answer({"access_token": "new"})).result

    assert tokens == Tokens(access=Secret("new"))
    assert set(claude.write_tokens(tokens, {}, NOW)) == {"access_token", "last_refresh", "expired"}


@pytest.mark.parametrize("status", [404, 405])
def test_claude_asks_the_former_address_when_the_new_one_is_not_there(status):
    login = completed(claude.LOGIN, "c", answer(b"", status), answer(CLAUDE_ANSWER))
    refresh = play(
        claude.refresh(file_of("claude"), OLD, Config(), PROXIES), answer(b"", status), answer(CLAUDE_ANSWER)
    )

    for played in (login, refresh):
        assert [request.url for request in played.requests] == [CLAUDE_URL, CONSOLE_URL]
        assert played.error is None


def test_claude_asks_a_moved_address_alone():
    moved = Config(endpoints=Endpoints(claude=ClaudeEndpoint(token_url="http://127.0.0.1:9/token")))

    played = play(claude.refresh(file_of("claude"), OLD, moved, PROXIES), answer(b"", 404))

    assert [request.url for request in played.requests] == ["http://127.0.0.1:9/token"]
    assert isinstance(played.error, Unavailable)


REVOKED = [
    (claude, {"error": "invalid_grant"}, 400),
    (claude, {"type": "error", "error": {"type": "authentication_error"}}, 401),
    (codex, {"error": {"code": "refresh_token_expired"}}, 400),
    (codex, {"error": {"code": "refresh_token_reused"}}, 400),
    (codex, {"error": {"code": "refresh_token_invalidated"}}, 403),
    (codex, {}, 401),
    (gemini, {"error": "invalid_grant", "error_description": "Bad Request"}, 400),
    (qwen, {}, 400),
    (qwen, {}, 401),
]


@pytest.mark.parametrize(("vendor", "body", "status"), REVOKED, ids=range(len(REVOKED)))
def test_a_dead_refresh_token_is_told_from_a_passing_failure(vendor, body, status):
    played = play(vendor.refresh(file_of(vendor.KIND), OLD, Config(), PROXIES, SECRETS), answer(body, status))

    assert isinstance(played.error, GrantRevoked)


PASSING = [(b"<html>", 403), ({}, 429), (b"", 500), (b"", 502), ({}, 404), (b"<html>", 200)]


@pytest.mark.parametrize(("body", "status"), PASSING, ids=[status for _, status in PASSING])
@pytest.mark.parametrize("vendor", [claude, codex, gemini, qwen])
def test_what_may_pass_is_told_so_with_its_wait(vendor, body, status):
    moved = Config(endpoints=Endpoints(claude=ClaudeEndpoint(token_url="http://h/t")))

    played = play(
        vendor.refresh(file_of(vendor.KIND), OLD, moved, PROXIES, SECRETS), answer(body, status, retry_after="7")
    )

    assert isinstance(played.error, Unavailable)
    assert played.error.retry_after == (7.0 if status != 200 else None)


@pytest.mark.parametrize("vendor", [claude, codex, gemini, qwen])
def test_a_file_without_a_refresh_token_is_never_renewed(vendor):
    played = play(vendor.refresh(file_of(vendor.KIND), Tokens(access=Secret("a")), Config(), PROXIES))

    assert played.steps == []
    assert isinstance(played.error, GrantRevoked)


@pytest.mark.parametrize("vendor", [claude, codex, gemini, qwen])
def test_an_account_is_renewed_through_its_own_proxy(vendor):
    file = file_of(vendor.KIND, proxy_url=Secret("socks5://p:1"))

    request = next(vendor.refresh(file, OLD, Config(proxy_url=Secret("http://q:2")), PROXIES, SECRETS))

    assert request.origin.proxy == "socks5://p:1"


def test_a_login_goes_through_the_proxy_of_the_configuration():
    config = Config(proxy_url=Secret("http://q:2"))

    for login in LOGINS:
        exchange = (
            login.begin(config, PROXIES, counting_bytes)
            if login.channel == "qwen"
            else login.complete(config, PROXIES, handshake_of(login), "c", "", NOW, SECRETS)
        )
        assert next(exchange).origin.proxy == "http://q:2"


# -- Codex

CODEX_URL = "https://auth.openai.com/oauth/token"
ID_TOKEN = jwt(
    email="ann@example.com",
    **{"https://api.openai.com/auth": {"chatgpt_account_id": "account-1", "chatgpt_plan_type": "plus"}},
)
CODEX_ANSWER = {"id_token": ID_TOKEN, "access_token": "access-1", "refresh_token": "refresh-1", "expires_in": 3600}


def test_codex_exchanges_a_code_in_a_form():
    played = completed(codex.LOGIN, "the/code", answer(CODEX_ANSWER))

    body = (
        "grant_type=authorization_code&client_id=app_EMoamEEZ73f0CkXaXp7hrann&code=the%2Fcode"
        f"&redirect_uri=http%3A%2F%2Flocalhost%3A1455%2Fauth%2Fcallback&code_verifier={VERIFIER}"
    )
    assert played.steps == [Sent("POST", CODEX_URL, FORM, body.encode())]


def test_codex_writes_its_file():
    (new,) = completed(codex.LOGIN, "c", answer(CODEX_ANSWER)).result

    assert new.name == "codex-ann@example.com.json"
    assert list(new.members.items()) == [
        ("id_token", ID_TOKEN),
        ("access_token", "access-1"),
        ("refresh_token", "refresh-1"),
        ("account_id", "account-1"),
        ("last_refresh", "2026-09-21T14:13:20Z"),
        ("email", "ann@example.com"),
        ("type", "codex"),
        ("expired", LATER),
    ]


def test_the_file_of_a_codex_login_says_its_plan():
    (new,) = completed(codex.LOGIN, "c", answer(CODEX_ANSWER)).result

    assert read_file(new.name, new.members).plan == "plus"


def test_codex_knows_the_account_from_the_access_token_when_the_other_is_silent():
    access = jwt(**{"https://api.openai.com/auth": {"chatgpt_account_id": "account-2"}})

    (new,) = completed(codex.LOGIN, "c", answer({"access_token": access, "id_token": "garbage"})).result

    assert (new.members["account_id"], new.members["email"]) == ("account-2", "")
    assert new.name == "codex-1790000000700.json"


def test_an_account_id_that_cannot_stand_in_a_header_is_none():
    token = jwt(**{"https://api.openai.com/auth": {"chatgpt_account_id": "ä\r\nx: y"}})

    assert codex.identity_of(Tokens(access=Secret(), id_token=Secret(token))).account_id == ""


def test_codex_refreshes_in_a_form():
    played = play(codex.refresh(file_of("codex"), OLD, Config(), PROXIES), answer(CODEX_ANSWER))

    body = (
        b"client_id=app_EMoamEEZ73f0CkXaXp7hrann&grant_type=refresh_token&refresh_token=refresh-old"
        b"&scope=openid+profile+email"
    )
    assert played.steps == [Sent("POST", CODEX_URL, FORM, body)]
    assert played.result == Tokens(
        access=Secret("access-1"),
        refresh=Secret("refresh-1"),
        id_token=Secret(ID_TOKEN),
        lifetime=3600.0,
        extra={"account_id": "account-1", "email": "ann@example.com"},
    )


def test_codex_keeps_who_it_is_when_a_refresh_does_not_say():
    members = {"id_token": ID_TOKEN, "account_id": "account-1", "email": "ann@example.com"}
    tokens = play(codex.refresh(file_of("codex"), OLD, Config(), PROXIES), answer({"access_token": "new"})).result

    written = members | dict(codex.write_tokens(tokens, members, NOW))

    assert {name: written[name] for name in members} == members
    assert written["access_token"] == "new"


def test_a_codex_token_says_itself_how_long_it_lives():
    access = jwt(iat=1_000, exp=1_000 + 864_000)

    tokens = play(codex.refresh(file_of("codex"), OLD, Config(), PROXIES), answer({"access_token": access})).result

    assert tokens.lifetime == 864_000.0


@pytest.mark.parametrize(
    "claims", [{"exp": 5}, {"iat": 9, "exp": 5}, {"iat": "x", "exp": "y"}, {"iat": 0, "exp": 1e18}]
)
def test_a_codex_token_without_sensible_times_has_no_known_end(claims):
    answered = answer({"access_token": jwt(**claims)})

    assert play(codex.refresh(file_of("codex"), OLD, Config(), PROXIES), answered).result.lifetime == 0.0


# -- Qwen

DEVICE_URL = "https://chat.qwen.ai/api/v1/oauth2/device/code"
QWEN_URL = "https://chat.qwen.ai/api/v1/oauth2/token"
QWEN_ID = "f0304373b74a44d2b584a3fb70ca9e56"
QWEN_VERIFIER = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
OFFERED = {
    "device_code": "device-1",
    "user_code": "AB-CD",
    "verification_uri": "https://chat.qwen.ai/authorize",
    "verification_uri_complete": "https://chat.qwen.ai/authorize?user_code=AB-CD",
    "expires_in": 900,
}
QWEN_ANSWER = {
    "access_token": "access-1",
    "refresh_token": "refresh-1",
    "token_type": "Bearer",
    "resource_url": "portal.qwen.ai",
    "expires_in": 3600,
}
PENDING = answer({"error": "authorization_pending"}, 400)


def prompted() -> DevicePrompt:
    return play(qwen.LOGIN.begin(Config(), PROXIES, counting_bytes), answer(OFFERED)).result


def test_qwen_asks_for_a_device_code():
    played = play(qwen.LOGIN.begin(Config(), PROXIES, counting_bytes), answer(OFFERED))

    body = (
        f"client_id={QWEN_ID}&scope=openid+profile+email+model.completion"
        "&code_challenge=6oZqdX5MOLq_qBJ8vppAnT4fk6AP8UiP9zX8-Rev_9A&code_challenge_method=S256"
    )
    assert played.steps == [Sent("POST", DEVICE_URL, FORM, body.encode())]
    prompt = played.result
    assert (prompt.url, prompt.user_code, prompt.expires_in) == (OFFERED["verification_uri_complete"], "AB-CD", 900.0)
    assert "device-1" not in repr(prompt)
    assert QWEN_VERIFIER not in repr(prompt)


def test_qwen_waits_for_the_person_and_writes_its_file():
    played = play(qwen.LOGIN.complete(Config(), PROXIES, prompted(), NOW), PENDING, PENDING, answer(QWEN_ANSWER))

    body = (
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code"
        f"&client_id={QWEN_ID}&device_code=device-1&code_verifier={QWEN_VERIFIER}"
    )
    assert played.steps == [5.0, Sent("POST", QWEN_URL, FORM, body.encode())] * 3
    (new,) = played.result
    assert new.name == "qwen-1790000000700.json"
    assert list(new.members.items()) == [
        ("access_token", "access-1"),
        ("refresh_token", "refresh-1"),
        ("last_refresh", "2026-09-21T14:13:20Z"),
        ("resource_url", "portal.qwen.ai"),
        ("email", "qwen-1790000000700"),
        ("type", "qwen"),
        ("expired", LATER),
    ]


def test_qwen_is_denied():
    played = play(qwen.LOGIN.complete(Config(), PROXIES, prompted(), NOW), answer({"error": "access_denied"}, 400))

    assert isinstance(played.error, Denied)


def test_qwen_does_not_go_on_with_the_prompt_of_another_login():
    with pytest.raises(TypeError):
        next(qwen.LOGIN.complete(Config(), PROXIES, DevicePrompt("u", "c", 1.0, "x"), NOW))


def test_qwen_refreshes_in_a_form_and_keeps_what_is_left_out():
    played = play(qwen.refresh(file_of("qwen"), OLD, Config(), PROXIES), answer({"access_token": "new"}))

    body = f"grant_type=refresh_token&refresh_token=refresh-old&client_id={QWEN_ID}"
    assert played.steps == [Sent("POST", QWEN_URL, FORM, body.encode())]
    assert played.result == Tokens(access=Secret("new"))
    assert set(qwen.write_tokens(played.result, {}, NOW)) == {"access_token", "last_refresh", "expired"}


def test_qwen_takes_a_new_resource_url():
    moved = Config(endpoints=Endpoints(qwen=QwenEndpoint(token_url="http://h/t", client_id="x")))

    tokens = play(qwen.refresh(file_of("qwen"), OLD, moved, PROXIES), answer(QWEN_ANSWER)).result

    assert tokens.extra == {"resource_url": "portal.qwen.ai"}
    assert tokens.refresh == Secret("refresh-1")


# -- Google

GOOGLE_URL = "https://oauth2.googleapis.com/token"
GOOGLE_ID = GeminiCliEndpoint().client_id
USERINFO_URL = "https://www.googleapis.com/oauth2/v2/userinfo"
GOOGLE_ANSWER = {"access_token": "access-1", "refresh_token": "refresh-1", "expires_in": 3600, "token_type": "Bearer"}
BEARER = {"accept": "application/json", "authorization": "Bearer access-1", "user-agent": USER_AGENT}
USER = answer({"email": "ann@example.com"})
LOADED = answer({"currentTier": {"id": "standard-tier"}, "cloudaicompanionProject": "project-a"})


def test_google_exchanges_a_code_and_asks_who_it_is():
    played = completed(gemini.LOGIN, "4/code", answer(GOOGLE_ANSWER), USER, LOADED, secrets=SECRETS)

    body = (
        "grant_type=authorization_code&code=4%2Fcode"
        "&redirect_uri=http%3A%2F%2Flocalhost%3A8085%2Foauth2callback"
        f"&client_id={GOOGLE_ID}&client_secret=google-secret"
    )
    assert played.steps[:2] == [
        Sent("POST", GOOGLE_URL, FORM, body.encode()),
        Sent("GET", USERINFO_URL, BEARER, b""),
    ]


def test_google_writes_its_file():
    (new,) = completed(gemini.LOGIN, "c", answer(GOOGLE_ANSWER), USER, LOADED, secrets=SECRETS).result

    assert new.name == "ann@example.com-project-a.json"
    assert list(new.members) == ["token", "project_id", "email", "auto", "checked", "type"]
    token = new.members["token"]
    assert list(token.items()) == [
        ("access_token", "access-1"),
        ("token_type", "Bearer"),
        ("refresh_token", "refresh-1"),
        ("expiry", LATER),
        ("token_uri", GOOGLE_URL),
        ("client_id", GOOGLE_ID),
        ("client_secret", "google-secret"),
        (
            "scopes",
            [
                "https://www.googleapis.com/auth/cloud-platform",
                "https://www.googleapis.com/auth/userinfo.email",
                "https://www.googleapis.com/auth/userinfo.profile",
            ],
        ),
        ("universe_domain", "googleapis.com"),
    ]
    assert list(new.members.values())[1:] == ["project-a", "ann@example.com", True, False, "gemini"]


def test_google_tells_no_address_and_the_file_is_named_by_the_time():
    (new,) = completed(gemini.LOGIN, "c", answer(GOOGLE_ANSWER), answer({}), LOADED, secrets=SECRETS).result

    assert new.name == "gemini-1790000000700-project-a.json"


@pytest.mark.parametrize("failure", [answer(b"", 500), answer(b"<html>"), UNREACHABLE])
def test_google_is_known_from_its_identity_token_when_it_cannot_be_asked(failure):
    tokens = answer(GOOGLE_ANSWER | {"id_token": jwt(email="ann@example.com")})

    (new,) = completed(gemini.LOGIN, "c", tokens, failure, LOADED, secrets=SECRETS).result

    assert new.members["email"] == "ann@example.com"


@pytest.mark.parametrize("failure", [answer({"error": {"message": "Try later."}}, 500), UNREACHABLE])
def test_google_does_not_say_who_it_is(failure):
    error = completed(gemini.LOGIN, "c", answer(GOOGLE_ANSWER), failure, secrets=SECRETS).error

    assert isinstance(error, Unavailable)
    assert "whose account" in str(error)


def test_google_refreshes_with_the_secret_and_keeps_the_refresh_token():
    played = play(
        gemini.refresh(file_of("gemini"), OLD, Config(), PROXIES, SECRETS),
        answer({"access_token": "new", "expires_in": 3599}),
    )

    body = f"grant_type=refresh_token&refresh_token=refresh-old&client_id={GOOGLE_ID}&client_secret=google-secret"
    assert played.steps == [Sent("POST", GOOGLE_URL, FORM, body.encode())]
    assert played.result == Tokens(access=Secret("new"), lifetime=3599.0)


def test_google_refuses_the_client_secret():
    error = play(
        gemini.refresh(file_of("gemini"), OLD, Config(), PROXIES, SECRETS),
        answer(
            {"error": "invalid_client", "error_description": "The provided client secret google-secret is bad."}, 401
        ),
    ).error

    assert isinstance(error, Misconfigured)
    assert "`endpoints.gemini-cli.client-secret`" in str(error)
    assert "google-secret" not in said(error)


# -- Google's client secret

CONFIGURED = Config(endpoints=Endpoints(gemini_cli=GeminiCliEndpoint(client_secret=Secret("s-config"))))
EVERYWHERE = ClientSecrets(
    environment=Secret("s-environment"),
    files={GOOGLE_ID: Secret("s-file"), "x": Secret("s-x")},
    installed=Secret("s-npm"),
)
OWN = Tokens(access=Secret("a"), client_id=GOOGLE_ID, client_secret=Secret("s-own"))

PICKED = [
    (CONFIGURED, EVERYWHERE, OWN, "s-config"),
    (Config(), EVERYWHERE, OWN, "s-environment"),
    (Config(), ClientSecrets(files=EVERYWHERE.files, installed=Secret("s-npm")), OWN, "s-own"),
    (Config(), ClientSecrets(files=EVERYWHERE.files, installed=Secret("s-npm")), None, "s-file"),
    (Config(), ClientSecrets(installed=Secret("s-npm")), Tokens(access=Secret("a")), "s-npm"),
    (CONFIGURED, EVERYWHERE, Tokens(access=Secret("a"), client_id="x", client_secret=Secret("s-own")), "s-own"),
    (CONFIGURED, EVERYWHERE, Tokens(access=Secret("a"), client_id="x"), "s-x"),
]


@pytest.mark.parametrize(("config", "found", "tokens", "secret"), PICKED, ids=[row[3] for row in PICKED])
def test_the_secret_is_the_first_that_belongs_to_the_client(config, found, tokens, secret):
    client = client_for(config, found, tokens)

    assert client.secret == Secret(secret)
    assert client.id == (tokens.client_id if tokens and tokens.client_id else GOOGLE_ID)


def test_a_login_without_the_secret_says_what_is_missing_before_it_asks():
    played = completed(gemini.LOGIN, "c")

    assert played.steps == []
    assert isinstance(played.error, Misconfigured)
    for place in (
        "`endpoints.gemini-cli.client-secret`",
        "`CLIPROXY_GEMINI_CLIENT_SECRET`",
        "`@google/gemini-cli`",
        "`token.client_secret`",
    ):
        assert place in str(played.error)


def test_the_secret_of_another_client_is_not_replaced_by_ours():
    tokens = Tokens(access=Secret("a"), refresh=Secret("r"), client_id="y")

    played = play(gemini.refresh(file_of("gemini"), tokens, CONFIGURED, PROXIES, EVERYWHERE))

    assert played.steps == []
    assert isinstance(played.error, Misconfigured)
    assert "another client" in str(played.error)


SOURCES = [
    "const OAUTH_CLIENT_ID =\n  'the-id.example';\nconst OAUTH_CLIENT_SECRET = 'the-secret';",
    'var OAUTH_CLIENT_ID="the-id.example",OAUTH_CLIENT_SECRET="the-secret";',
    'var OAUTH_CLIENT_ID2 = "the-id.example";var OAUTH_CLIENT_SECRET2 = `the-secret`;',
    'var OAUTH_CLIENT_ID="other",OAUTH_CLIENT_SECRET="wrong";var OAUTH_CLIENT_ID2="the-id.example",'
    'OAUTH_CLIENT_SECRET2="the-secret";',
    'OAUTH_CLIENT_SECRET = "the-secret"; OAUTH_CLIENT_ID = "the-id.example"',
    'x = {OAUTH_CLIENT_ID: "the-id.example", y: 1, OAUTH_CLIENT_SECRET: "the-secret"}',
]


@pytest.mark.parametrize("source", SOURCES)
def test_the_secret_is_found_in_javascript(source):
    assert secret_in_javascript(f"x\n{source}\ny", "the-id.example") == Secret("the-secret")


@pytest.mark.parametrize(
    "source",
    [
        "",
        'OAUTH_CLIENT_ID = "the-id.example"',
        'OAUTH_CLIENT_SECRET = "wrong"',
        'OAUTH_CLIENT_ID = "other"; OAUTH_CLIENT_SECRET = "wrong"',
        'OAUTH_CLIENT_ID = "the-id.example"; OAUTH_CLIENT_ID = "other"; OAUTH_CLIENT_SECRET = "wrong"',
        'OAUTH_CLIENT_ID = "the-id.example"; OAUTH_CLIENT_SECRET = process.env.SECRET',
    ],
)
def test_a_secret_of_another_client_is_not_taken(source):
    assert secret_in_javascript(source, "the-id.example") == Secret()


def test_nothing_sent_says_that_it_is_another_program():
    requests = [
        *completed(claude.LOGIN, "c", answer(CLAUDE_ANSWER)).requests,
        *completed(codex.LOGIN, "c", answer(CODEX_ANSWER)).requests,
        *completed(gemini.LOGIN, "c", answer(GOOGLE_ANSWER), USER, LOADED, secrets=SECRETS).requests,
        sent(next(qwen.LOGIN.begin(Config(), PROXIES, counting_bytes))),
    ]

    names = {name for request in requests for name in request.headers}
    assert names == {"content-type", "accept", "authorization", "user-agent"}
    assert {request.headers["user-agent"] for request in requests} == {USER_AGENT}
