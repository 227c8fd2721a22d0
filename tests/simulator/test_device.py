"""Qwen's login on another device."""

from urllib.parse import quote

import pytest

from cliproxy.simulator import Simulator
from cliproxy.simulator.accounts import CLIENT_IDS, SCOPES, digest_of

VERIFIER = "v" * 43
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


def begin(call, **changes):
    fields = {
        "client_id": CLIENT_IDS["qwen"],
        "scope": " ".join(SCOPES["qwen"]),
        "code_challenge": digest_of(VERIFIER),
        "code_challenge_method": "S256",
    }
    return call("POST", "/api/v1/oauth2/device/code", form={**fields, **changes})


def poll(call, prompt, verifier=VERIFIER):
    fields = {
        "grant_type": DEVICE_GRANT,
        "client_id": CLIENT_IDS["qwen"],
        "device_code": prompt["device_code"],
        "code_verifier": verifier,
    }
    return call("POST", "/api/v1/oauth2/token", form=fields)


def verdict(answer):
    return answer.status, answer.json.get("error")


def test_a_yes_on_the_other_device_becomes_tokens(sim: Simulator, call):
    prompt = begin(call).json

    pending = poll(call, prompt)
    sim.approve(prompt["verification_uri_complete"], email="ada@example.com")
    answer = poll(call, prompt)

    assert verdict(pending) == (400, "authorization_pending")
    assert answer.status == 200
    assert answer.json["resource_url"] == f"{sim.url}/compatible-mode"
    assert sim.accounts.check("qwen", answer.json["access_token"])[0].email == "ada@example.com"
    assert verdict(poll(call, prompt)) == (400, "expired_token")


def test_a_no_ends_it(sim: Simulator, call):
    prompt = begin(call).json

    assert sim.approve(prompt["verification_uri_complete"], deny=True) == ""
    assert verdict(poll(call, prompt)) == (400, "access_denied")


def test_a_person_finds_the_page_by_the_code(sim: Simulator, call):
    prompt = begin(call).json

    page = call("GET", f"{prompt['verification_uri']}?user_code={quote(prompt['user_code'])}")
    unknown = call("GET", f"{prompt['verification_uri']}?user_code=NONE-SUCH")

    assert prompt["user_code"].encode() in page.body
    assert b'value="deny"' in page.body
    assert unknown.status == 400


def test_time_runs_out(sim: Simulator, call):
    sim.accounts.device_lifetime = 30
    prompt = begin(call).json
    sim.accounts.skew = 31

    assert prompt["expires_in"] == 30
    assert verdict(poll(call, prompt)) == (400, "expired_token")
    with pytest.raises(ValueError, match="too late"):
        sim.approve(prompt["verification_uri_complete"])


def test_who_polls_too_fast_is_told_to_slow_down(sim: Simulator, call):
    sim.accounts.interval = 5
    prompt = begin(call).json

    answers = [verdict(poll(call, prompt)) for _ in range(2)]
    sim.accounts.skew = 6

    assert prompt["interval"] == 5
    assert answers == [(400, "authorization_pending"), (429, "slow_down")]
    assert verdict(poll(call, prompt)) == (400, "authorization_pending")


def test_slowing_down_can_be_asked_for(sim: Simulator, call):
    sim.accounts.slow_downs = 2
    prompt = begin(call).json
    sim.approve(prompt["verification_uri_complete"])

    assert [poll(call, prompt).status for _ in range(3)] == [429, 429, 200]
    assert "interval" not in prompt


def test_the_verifier_belongs_to_the_challenge(sim: Simulator, call):
    prompt = begin(call).json
    sim.approve(prompt["verification_uri_complete"])

    assert verdict(poll(call, prompt, "w" * 43)) == (400, "invalid_grant")
    assert poll(call, prompt).status == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"client_id": "somebody"}, "invalid_client"),
        ({"scope": "everything"}, "invalid_scope"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
    ],
)
def test_a_beginning_that_is_wrong_is_refused(call, changes, error):
    assert verdict(begin(call, **changes)) == (400, error)


@pytest.mark.parametrize("place", ["portal.qwen.ai", ""])
def test_the_place_of_the_api_can_be_told_in_other_forms_or_not_at_all(sim: Simulator, call, place):
    sim.accounts.resource_url = place
    prompt = begin(call).json
    sim.approve(prompt["verification_uri_complete"])

    assert poll(call, prompt).json.get("resource_url", "") == place
    assert sim.accounts.issue("qwen", "ada@example.com")["resource_url"] == place
