"""The Messages API with an account's token: what only accounts meet. The rest is the surface for keys."""

import anthropic
import pytest

from cliproxy.simulator import Simulator

HAIKU = "claude-haiku-4-5-20251001"
SONNET = "claude-sonnet-4-5-20250929"
HEAD = {"anthropic-version": "2023-06-01", "anthropic-beta": "x-2025-01-01, oauth-2025-04-20"}
GENUINE = {**HEAD, "user-agent": "claude-cli/2.1.0 (external, cli)"}


def ask(model=HAIKU, **fields):
    return {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}], **fields}


def test_the_sdk_speaks_with_a_token(sim: Simulator, token_of):
    beta = {"anthropic-beta": "oauth-2025-04-20"}
    with anthropic.Anthropic(
        auth_token=token_of("claude"), base_url=sim.url, default_headers=beta, max_retries=0
    ) as client:
        answer = client.messages.create(**ask())
        with client.messages.stream(**ask()) as stream:
            streamed = stream.get_final_message()

    assert answer.content[0].text == streamed.content[0].text == "echo: hi"


def test_without_the_beta_nobody_is_let_in(call, token_of):
    answer = call("POST", "/v1/messages", ask(), token=token_of("claude"), headers={"anthropic-version": "2023-06-01"})

    assert (answer.status, answer.json["error"]["type"]) == (401, "authentication_error")
    assert "not supported" in answer.json["error"]["message"]


def test_dead_tokens_are_refused(sim: Simulator, call, token_of):
    expired = token_of("claude", expired=True)
    revoked = token_of("claude", "bob@example.com")
    sim.accounts.revoke("bob@example.com")

    answers = [
        call("POST", "/v1/messages", ask(), token=token, headers=HEAD)
        for token in (expired, revoked, "sk-ant-oat01-guessed")
    ]

    says = [answer.json["error"]["message"].split(".")[0] for answer in answers]
    assert [answer.status for answer in answers] == [401, 401, 401]
    assert says == ["OAuth token has expired", "OAuth token has been revoked", "Invalid bearer token"]


@pytest.mark.parametrize(
    ("model", "headers", "fields", "status"),
    [
        (HAIKU, HEAD, {}, 200),
        (SONNET, HEAD, {"system": "Be kind."}, 400),
        (SONNET, GENUINE, {}, 400),
        (SONNET, GENUINE, {"system": "Be kind."}, 200),
        (SONNET, GENUINE, {"system": [{"type": "text", "text": "Be kind."}]}, 200),
    ],
)
def test_larger_models_are_for_claude_code(call, token_of, model, headers, fields, status):
    answer = call("POST", "/v1/messages", ask(model, **fields), token=token_of("claude"), headers=headers)

    assert answer.status == status
    if status == 400:
        assert answer.json["error"] == {"type": "invalid_request_error", "message": "Error"}


def test_counting_and_listing_ask_for_no_identity(call, token_of):
    body = {name: value for name, value in ask(SONNET).items() if name != "max_tokens"}
    token = token_of("claude")

    counted = call("POST", "/v1/messages/count_tokens", body, token=token, headers=HEAD)
    listed = call("GET", "/v1/models", token=token, headers=HEAD)

    assert counted.json == {"input_tokens": 1}
    assert HAIKU in [row["id"] for row in listed.json["data"]]


def test_limits_are_those_of_a_plan(call, token_of):
    headers = call("POST", "/v1/messages", ask(), token=token_of("claude"), headers=HEAD).headers

    assert headers["anthropic-ratelimit-unified-status"] == "allowed"
    assert headers["anthropic-ratelimit-unified-5h-reset"].isdigit()
    assert "anthropic-ratelimit-requests-limit" not in headers


def test_a_token_is_no_key(call, token_of):
    head = {**HEAD, "x-api-key": token_of("claude")}

    assert call("POST", "/v1/messages", ask(), headers=head).status == 401


def test_the_profile_tells_who_it_is(call, token_of):
    answer = call("GET", "/api/oauth/profile", token=token_of("claude", "bob@example.com"), headers=HEAD)

    assert answer.json["account"]["email"] == "bob@example.com"
