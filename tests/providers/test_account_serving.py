"""Accounts that come from files before the simulated vendors' strict surfaces: every dialect in, every kind of account
out."""

import json
from typing import Any

import pytest
from plain import CALLERS, CHAT, GEMINI, MESSAGES, RESPONSES, STREAMERS, Answer, Caller

from account_gateway import EMAILS, AccountGateway
from cliproxy.simulator import Simulator, failures
from cliproxy.simulator.accounts import Account
from cliproxy.simulator.rules import Rule

pytestmark = pytest.mark.flow

KINDS = {
    "claude": "claude-haiku-4-5-20251001",
    "codex": "gpt-5.5",
    "gemini": "gemini-2.5-pro",
    "qwen": "qwen3-coder-plus",
}
NATIVE = {"claude": MESSAGES, "codex": RESPONSES, "qwen": CHAT}
CLAUDE_CODE = {"user-agent": "claude-cli/2.1.330 (external, sdk-cli)", "anthropic-beta": "claude-code-20250219"}
KEYED = """\
claude-api-key:
  - {{api-key: sk-sim-claude, base-url: "{url}", models: [{{name: claude-opus-4-7}}]}}
"""


@pytest.fixture(scope="module")
def simulated():
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def vendors(simulated: Simulator) -> Simulator:
    simulated.reset()
    return simulated


@pytest.fixture
def gateway(vendors: Simulator) -> AccountGateway:
    return AccountGateway(vendors, *KINDS)


def called(vendors: Simulator, part: str) -> list[Any]:
    """The requests that vendors got at addresses with `part` in them."""
    return [seen for seen in vendors.settled() if part in seen.path]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("caller", STREAMERS, ids=lambda caller: caller.name)
@pytest.mark.parametrize("kind", KINDS)
def test_every_account_answers_every_dialect(gateway, kind, caller: Caller, stream):
    answer = gateway.ask(caller, KINDS[kind], stream=stream)

    assert answer.status == 200, answer.body
    assert caller.text(answer, stream=stream) == "echo: hello there you"
    if stream:
        assert caller.is_finished(answer)
        assert caller.usage(answer) > (0, 0)


TOOL = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SAID = 'call weather {"city": "Bern"}'
ASKING: dict[str, dict[str, Any]] = {
    "openai-chat": {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": SAID}],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": TOOL}}],
    },
    "openai-responses": {
        "input": [{"role": "system", "content": "s"}, {"role": "user", "content": SAID}],
        "tools": [{"type": "function", "name": "weather", "parameters": TOOL, "strict": False}],
        "temperature": 0.5,
        "max_output_tokens": 500,
    },
    "anthropic": {
        "max_tokens": 500,
        "system": "s",
        "messages": [{"role": "user", "content": SAID}],
        "tools": [{"name": "weather", "input_schema": TOOL}],
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": "s"}]},
        "contents": [{"role": "user", "parts": [{"text": SAID}]}],
        "tools": [{"functionDeclarations": [{"name": "weather", "description": "d", "parametersJsonSchema": TOOL}]}],
    },
}


def calls_in(caller: Caller, answer: Answer, *, stream: bool) -> tuple[str, Any]:
    """The name and the arguments of the one call in an answer."""
    names: list[str] = []
    pieces: list[str] = []
    for event in answer.events if stream else [answer.json]:
        match caller.name:
            case "openai-chat":
                for choice in event.get("choices") or ():
                    for call in (choice.get("delta") or choice.get("message") or {}).get("tool_calls") or ():
                        names += [call["function"]["name"]] if call["function"].get("name") else []
                        pieces.append(call["function"].get("arguments") or "")
            case "openai-responses":
                response = event if not stream else event.get("response", {}) if "completed" in event["type"] else {}
                for item in response.get("output", ()):
                    names += [item["name"]] if item["type"] == "function_call" else []
                    pieces.append(item.get("arguments", ""))
            case "anthropic":
                blocks = event["content"] if not stream else [event.get("content_block") or {}]
                names += [block["name"] for block in blocks if block.get("type") == "tool_use"]
                pieces += [json.dumps(block["input"]) for block in blocks if block.get("input")]
                pieces.append((event.get("delta") or {}).get("partial_json", ""))
            case _:
                for part in event["candidates"][0]["content"]["parts"]:
                    if call := part.get("functionCall"):
                        names.append(call["name"])
                        pieces.append(json.dumps(call["args"]))
    return " ".join(names), json.loads("".join(pieces))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
@pytest.mark.parametrize("kind", KINDS)
def test_every_account_calls_tools(gateway, kind, caller: Caller, stream):
    body = {**ASKING[caller.name]} | ({} if caller.name == "gemini" else {"model": KINDS[kind], "stream": stream})

    answer = gateway.post(caller.address(KINDS[kind], stream=stream), json.dumps(body).encode(), caller.headers)

    assert answer.status == 200, answer.body
    assert calls_in(caller, answer, stream=stream) == ("weather", {"city": "Bern"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_gemini_cli_is_served_by_every_account(gateway, kind, stream):
    body = {"model": KINDS[kind], "request": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}}
    method = "streamGenerateContent?alt=sse" if stream else "generateContent"

    answer = gateway.post(f"/v1internal:{method}", json.dumps(body).encode())

    events = answer.events if stream else [answer.json]
    texts = [part["text"] for e in events for part in e["response"]["candidates"][0]["content"]["parts"]]
    assert "".join(texts) == "echo: hi"


def test_a_native_request_keeps_its_bytes_but_for_the_project(gateway, vendors):
    body = b'{ "model":"gemini-2.5-pro","project":"cli-proxy-api", "user_prompt_id":"u", "request":{"contents":[{"role":"user","parts":[{"text":"hi"}]}],"session_id":"s"}}'
    headers = {"user-agent": "GeminiCLI/0.61.0/gemini-2.5-pro (linux; x64; terminal)"}

    assert gateway.post("/v1internal:generateContent", body, headers).status == 200

    (seen,) = called(vendors, "v1internal")
    project = vendors.accounts.find("gemini", EMAILS["gemini"]).project
    assert seen.body == body.replace(b"cli-proxy-api", project.encode())
    assert seen.headers["user-agent"] == headers["user-agent"]


def test_each_project_is_asked_with_its_own_name(vendors):
    members = vendors.accounts.issue("gemini", "eve@example.com", project="one-1,two-2")
    gateway = AccountGateway(vendors, more={"eve.json": members})

    for _ in range(2):
        assert gateway.ask(GEMINI, "gemini-2.5-pro").status == 200

    projects = [json.loads(seen.body)["project"] for seen in called(vendors, "v1internal")]
    assert set(projects) <= {"one-1", "two-2"}


def test_google_counts_what_the_cli_asks_for(gateway, vendors):
    inner = {"model": "models/gemini-2.5-pro", "contents": [{"role": "user", "parts": [{"text": "a b c"}]}]}

    answer = gateway.post("/v1internal:countTokens", json.dumps({"request": inner}).encode())

    assert answer.json == {"totalTokens": 3}
    assert "x-cliproxy-estimated" not in answer.headers
    assert len(called(vendors, "countTokens")) == 1


def test_claude_counts_for_its_accounts(gateway):
    body = {"model": "claude-opus-4-7", "messages": [{"role": "user", "content": "a b c"}]}

    answer = gateway.post("/v1/messages/count_tokens", json.dumps(body).encode(), MESSAGES.headers)

    assert answer.json["input_tokens"] > 0
    assert "x-cliproxy-estimated" not in answer.headers


@pytest.mark.parametrize("kind", KINDS)
def test_a_curl_caller_leads_to_no_forged_header(gateway, vendors, kind):
    caller = NATIVE.get(kind, GEMINI)

    assert gateway.ask(caller, KINDS[kind], headers={"user-agent": "curl/8.5.0", "x-app": "cli"}).status == 200

    (seen,) = vendors.settled()
    named = {"claude": {"anthropic-version", "anthropic-beta"}, "codex": {"accept", "chatgpt-account-id", "session-id"}}
    transport = {"host", "content-length", "accept-encoding", "connection"}
    assert seen.headers.keys() - transport == {"authorization", "content-type", "user-agent"} | named.get(kind, set())
    assert seen.headers["user-agent"].startswith("cli-proxy-api/")


# ---- Claude ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
def test_a_caller_that_the_vendor_refuses_is_told_why(vendors, caller: Caller):
    more = {"two.json": vendors.accounts.issue("claude", "two@example.com")}
    gateway = AccountGateway(vendors, "claude", more=more)

    answer = gateway.ask(caller, "claude-opus-4-7")

    assert answer.status == 400
    assert "Claude Code only" in caller.error(answer)["message"]
    assert len(called(vendors, "/v1/messages")) == 1


def test_an_account_with_a_key_serves_whom_the_others_refuse(vendors):
    more = {"two.json": vendors.accounts.issue("claude", "two@example.com") | {"priority": 9}}
    gateway = AccountGateway(vendors, "claude", more=more, text=KEYED.format(url=vendors.url))

    answer = gateway.ask(MESSAGES, "claude-opus-4-7")

    assert answer.status == 200
    assert [seen.status for seen in called(vendors, "/v1/messages")] == [400, 200]


def test_claude_code_itself_is_served(gateway, vendors):
    body = {"model": "claude-opus-4-7", "max_tokens": 50, "system": "mine", "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip

    answer = gateway.post("/v1/messages", json.dumps(body).encode(), MESSAGES.headers | CLAUDE_CODE)

    assert answer.status == 200
    (seen,) = called(vendors, "/v1/messages")
    assert seen.body == json.dumps(body).encode()
    assert seen.headers["anthropic-beta"] == "claude-code-20250219,oauth-2025-04-20"


# ---- Codex ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
def test_a_whole_answer_is_complete_when_the_end_of_the_stream_repeats_nothing(gateway, vendors, caller: Caller):
    vendors.script(Rule(path="/responses", sse=("no-output",)))

    answer = gateway.ask(caller, "gpt-5.5")

    assert caller.text(answer, stream=False) == "echo: hello there you"


def test_a_stream_that_breaks_off_is_no_whole_answer(gateway, vendors):
    vendors.script(Rule(path="/responses", cut_after=4))

    assert gateway.ask(RESPONSES, "gpt-5.5").status == 502


@pytest.mark.parametrize("stream", [False, True])
def test_an_overload_inside_a_stream_moves_on_to_another_account(vendors, stream):
    more = {"two.json": vendors.accounts.issue("codex", "two@example.com")}
    gateway = AccountGateway(vendors, "codex", more=more, retries=1)
    vendors.script(Rule(path="/responses", times=1, error_after=2, error_code="server_is_overloaded", error_status=503))

    answer = gateway.ask(CHAT, "gpt-5.5", stream=stream)

    assert CHAT.text(answer, stream=stream) == "echo: hello there you"
    assert len(called(vendors, "/responses")) == 2


def test_a_model_that_the_plan_lacks_is_asked_elsewhere(vendors):
    vendors.accounts.add(Account(kind="codex", email=EMAILS["codex"], plan="free"))
    unknown = vendors.accounts.issue("codex", EMAILS["codex"])
    paid = vendors.accounts.issue("codex", "two@example.com")
    gateway = AccountGateway(vendors, more={"a.json": {**unknown, "model_aliases": [{"name": "gpt-5.4", "alias": "m"}], "priority": 1}, "b.json": {**paid, "model_aliases": [{"name": "gpt-5.4", "alias": "m"}]}})  # fmt: skip

    answer = gateway.ask(CHAT, "m")

    assert answer.status == 200
    assert [seen.status for seen in called(vendors, "/responses")] == [400, 200]


def test_a_workspace_is_named_where_a_token_is_good_for_several(vendors):
    vendors.accounts.add(Account(kind="codex", email=EMAILS["codex"], workspaces=("w-2",)))
    gateway = AccountGateway(vendors, "codex")

    assert gateway.ask(RESPONSES, "gpt-5.5").status == 200


def test_reasoning_comes_back_to_the_backend(gateway, vendors):
    asked = {"model": "gpt-5.5", "input": [{"role": "user", "content": "why"}], "reasoning": {"effort": "low", "summary": "auto"}}  # fmt: skip
    first = gateway.post("/v1/responses", json.dumps(asked).encode()).json
    asked["input"] += [*first["output"], {"role": "user", "content": "and now"}]

    second = gateway.post("/v1/responses", json.dumps(asked).encode())

    assert RESPONSES.text(second, stream=False) == "echo: and now"
    sent = json.loads(called(vendors, "/responses")[1].body)["input"]
    assert any(item.get("encrypted_content") for item in sent if item.get("type") == "reasoning")
    assert not any("id" in item for item in sent if item.get("type") == "message")


# ---- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_suspended_account_is_told_in_plain_words(gateway, vendors, stream):
    vendors.script(Rule(path="v1internal", answer=failures.on_stream(failures.code_assist_refused("TOS_VIOLATION"))))

    answer = gateway.ask(CHAT, "gemini-2.5-pro", stream=stream)

    assert answer.status == 502
    assert len(called(vendors, "v1internal")) == 1


def test_an_exhausted_project_is_a_limit_to_the_cli(gateway, vendors):
    vendors.script(Rule(path="v1internal", answer=failures.on_stream(failures.quota_exhausted("code-assist", 600))))
    body = {"model": "gemini-2.5-pro", "request": {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}}

    answer = gateway.post("/v1internal:streamGenerateContent?alt=sse", json.dumps(body).encode())

    assert answer.status == 429
    assert answer.json["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert float(answer.headers["retry-after"]) == pytest.approx(600, abs=5)


def test_a_service_that_has_ended_is_asked_once(gateway, vendors):
    vendors.script(Rule(path="/compatible-mode", answer=failures.failure("qwen", 403, "The service has ended.")))

    assert gateway.ask(CHAT, "qwen3-coder-plus").status == 502
    assert len(called(vendors, "/compatible-mode")) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_no_token_is_repeated_to_callers(gateway, vendors, kind):
    vendors.accounts.revoke(EMAILS[kind])

    answer = gateway.ask(CHAT, KINDS[kind])

    assert answer.status == 502
    assert "refused the gateway's account" in CHAT.error(answer)["message"]
