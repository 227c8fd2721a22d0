"""What leaves for accounts that come from files: addresses, exact headers, bodies. Nothing here performs HTTP."""

import json
from collections.abc import Mapping

import pytest

from cliproxy.canon.errors import MissingParameter
from cliproxy.config.schema import ClaudeEndpoint, Config, Endpoints, GeminiCliEndpoint, QwenEndpoint
from cliproxy.providers import claude_accounts, codex_accounts, gemini_cli, qwen
from cliproxy.providers.accounts import AccountFile
from cliproxy.providers.base import USER_AGENT, Ask, Proxies, Upstream
from cliproxy.providers.registry import ACCOUNT_PROVIDERS, KINDS, PROVIDERS
from cliproxy.routing.accounts import Served
from cliproxy.wire.secrets import Secret
from exchanges import sent

TOKEN = Secret("token-1234567890")
CURL = ((b"user-agent", b"curl/8.5.0"), (b"accept", b"*/*"), (b"authorization", b"Bearer callers-key"))
BODIES = {
    "claude": b'{"model":"m","messages":[]}',
    "codex": b'{"model":"m","input":"hi"}',
    "gemini": b'{"model":"m","request":{"contents":[]}}',
    "qwen": b'{"model":"m","messages":[]}',
}
TYPE = {"content-type": "application/json"}
BEARER = {"authorization": "Bearer token-1234567890"}
OURS = {"user-agent": USER_AGENT}
HI = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}


def upstreams(kind: str, config: Config | None = None, **members: object) -> list[Upstream]:
    file = AccountFile(**({"name": f"{kind}.json", "kind": kind} | members))  # type: ignore[arg-type]
    return list(KINDS[kind].account_upstreams(file, config or Config(), Proxies()))


def only(kind: str, config: Config | None = None, **members: object) -> Upstream:
    (upstream,) = upstreams(kind, config, **members)
    return upstream


def described(upstream: Upstream, body: bytes, **ask: object):
    wanted = {"model": "m", "body": body, "headers": (), "token": TOKEN} | ask
    return sent(upstream.provider.request(upstream, Ask(**wanted)))  # type: ignore[arg-type]


# ---- where to, and with which headers -------------------------------------------------------------------------------

ADDRESSES = [
    ("claude", {}, "https://api.anthropic.com/v1/messages"),
    ("claude", {"operation": "count"}, "https://api.anthropic.com/v1/messages/count_tokens"),
    ("codex", {}, "https://chatgpt.com/backend-api/codex/responses"),
    ("codex", {"is_stream": True}, "https://chatgpt.com/backend-api/codex/responses"),
    ("gemini", {}, "https://cloudcode-pa.googleapis.com/v1internal:generateContent"),
    ("gemini", {"is_stream": True}, "https://cloudcode-pa.googleapis.com/v1internal:streamGenerateContent?alt=sse"),
    ("gemini", {"operation": "count"}, "https://cloudcode-pa.googleapis.com/v1internal:countTokens"),
    ("qwen", {}, "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"),
]


@pytest.mark.parametrize(("kind", "ask", "url"), ADDRESSES)
def test_addresses_are_composed(kind, ask, url):
    assert described(only(kind), BODIES[kind], **ask).url == url


PLAIN = [
    ("claude", {**TYPE, **BEARER, **OURS, "anthropic-version": "2023-06-01", "anthropic-beta": "oauth-2025-04-20"}),
    ("codex", {**TYPE, **BEARER, **OURS, "accept": "text/event-stream", "chatgpt-account-id": "acc-1"}),
    ("gemini", {**TYPE, **BEARER, **OURS}),
    ("qwen", {**TYPE, **BEARER, **OURS}),
]


@pytest.mark.parametrize("is_native", [True, False])
@pytest.mark.parametrize(("kind", "lines"), PLAIN)
def test_a_plain_caller_leads_to_no_header_but_ours(kind, lines, is_native):
    upstream = only(kind, account_id="acc-1" if kind == "codex" else "")

    headers = described(upstream, BODIES[kind], headers=CURL, is_native=is_native).headers

    if kind == "codex":
        assert len(headers.pop("session-id")) == 36
    assert headers == lines


CLAUDE_CODE = {
    "user-agent": "claude-cli/2.1.330 (external, sdk-cli)",
    "x-app": "cli",
    "anthropic-version": "2023-06-01",
    "anthropic-dangerous-direct-browser-access": "true",
    "x-stainless-lang": "js",
    "x-claude-code-session-id": "s",
}
CODEX = {
    "user-agent": "codex_exec/0.169.0 (x)",
    "originator": "codex_exec",
    "session-id": "s",
    "thread-id": "t",
    "x-client-request-id": "r",
    "x-codex-window-id": "w",
}
GEMINI = {"user-agent": "GeminiCLI/0.61.0/gemini-2.5-pro (linux; x64)", "x-goog-api-client": "gl-node/24"}
QWEN = {"user-agent": "QwenCode/0.24.4 (linux; x64)", "x-dashscope-authtype": "qwen-oauth"}
GENUINE = [("claude", CLAUDE_CODE), ("codex", CODEX), ("gemini", GEMINI), ("qwen", QWEN)]


def lines_of(headers: Mapping[str, str]) -> tuple[tuple[bytes, bytes], ...]:
    secret = {"x-api-key": "callers-key", "cookie": "a=b", "authorization": "Bearer callers-key"}
    return tuple((name.encode(), value.encode()) for name, value in (headers | secret).items())


@pytest.mark.parametrize(("kind", "own"), GENUINE)
def test_a_vendors_own_client_keeps_its_headers(kind, own):
    headers = described(only(kind), BODIES[kind], headers=lines_of(own), is_native=True).headers

    ours = {"content-type", "authorization", "accept", "anthropic-beta"}
    assert {name: value for name, value in headers.items() if name not in ours} == own
    assert headers["authorization"] == "Bearer token-1234567890"


@pytest.mark.parametrize(("kind", "own"), GENUINE)
def test_they_do_not_cross_to_another_dialect(kind, own):
    headers = described(only(kind), BODIES[kind], headers=lines_of(own), is_native=False).headers

    assert headers["user-agent"] == USER_AGENT
    assert not {name for name in own if name not in ("user-agent", "anthropic-version", "session-id")} & headers.keys()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ([], "oauth-2025-04-20"),
        (["b1, b2"], "b1,b2,oauth-2025-04-20"),
        (["b2,b1", "b2", ""], "b2,b1,oauth-2025-04-20"),
        (["oauth-2025-04-20,b1"], "oauth-2025-04-20,b1"),
    ],
)
def test_betas_keep_their_order_and_come_once(asked, told):
    headers = tuple((b"anthropic-beta", beta.encode()) for beta in asked)

    assert described(only("claude"), b"{}", headers=headers, is_native=True).headers["anthropic-beta"] == told


def test_a_files_headers_win_and_tokens_keep_the_beta_that_they_need():
    headers = (("User-Agent", Secret("mine")), ("Anthropic-Beta", Secret("b9")), ("X-A", Secret("1")))

    told = described(only("claude", headers=headers), b"{}", headers=CURL, is_native=True).headers

    assert (told["user-agent"], told["x-a"]) == ("mine", "1")
    assert told["anthropic-beta"] == "b9,oauth-2025-04-20"


def test_no_request_to_claude_gains_a_word():
    body = b'{ "model":"m", "system":[{"type":"text","text":"You are a pirate."}], "messages":[] }'

    assert described(only("claude"), body, is_native=True).body == body


@pytest.mark.parametrize(
    ("resource_url", "moved", "url"),
    [
        ("portal.qwen.ai", "", "https://portal.qwen.ai/v1/chat/completions"),
        ("https://portal.qwen.ai/", "", "https://portal.qwen.ai/v1/chat/completions"),
        ("https://portal.qwen.ai/v1", "", "https://portal.qwen.ai/v1/chat/completions"),
        ("portal.qwen.ai/v1/", "", "https://portal.qwen.ai/v1/chat/completions"),
        ("http://127.0.0.1:9/compatible-mode", "", "http://127.0.0.1:9/compatible-mode/v1/chat/completions"),
        ("", "", "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"),
        ("ftp://x", "", "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"),
        ("no host at all", "", "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions"),
        ("portal.qwen.ai", "http://moved.example/x/", "http://moved.example/x/chat/completions"),
    ],
)
def test_qwen_is_asked_where_its_token_says_unless_it_was_moved(resource_url, moved, url):
    config = Config(endpoints=Endpoints(qwen=QwenEndpoint(base_url=moved)))

    assert described(only("qwen", config, resource_url=resource_url), b"{}").url == url


def test_the_other_vendors_can_be_moved_too():
    config = Config(
        endpoints=Endpoints(
            claude=ClaudeEndpoint(base_url="http://h/a/v1/"), gemini_cli=GeminiCliEndpoint(base_url="http://h/g/")
        )
    )

    assert described(only("claude", config), b"{}").url == "http://h/a/v1/messages"
    assert described(only("gemini", config), BODIES["gemini"]).url == "http://h/g/v1internal:generateContent"


def test_a_files_proxy_leads_to_its_vendor():
    upstream = only("codex", Config(proxy_url=Secret("http://all:1")), proxy_url=Secret("socks5://mine:1"))

    assert upstream.address.origin.proxy == "socks5://mine:1"
    assert only("codex", Config(proxy_url=Secret("http://all:1"))).address.origin.proxy == "http://all:1"


# ---- the ChatGPT backend's body -------------------------------------------------------------------------------------


def codex_body(**members: object) -> dict[str, object]:
    return json.loads(described(only("codex"), json.dumps({"model": "m", **members}).encode()).body)


UNTAKEN = {
    "max_output_tokens": 1,
    "max_completion_tokens": 1,
    "temperature": 1,
    "top_p": 1,
    "truncation": "auto",
    "user": "u",
    "metadata": {},
    "context_management": [],
    "prompt_cache_options": {},
    "prompt_cache_retention": "24h",
    "safety_identifier": "u",
    "stream_options": {},
    "generate": True,
    "service_tier": "flex",
}


def test_the_backend_gets_what_it_takes():
    told = codex_body(input="hi", store=True, stream=False, **UNTAKEN)

    assert told == {
        "model": "m",
        "input": [HI],
        "instructions": "",
        "include": ["reasoning.encrypted_content"],
        "store": False,
        "stream": True,
    }


def test_what_the_backend_takes_stays_as_it_came():
    kept = {
        "input": [HI],
        "instructions": "do",
        "tools": [{"type": "function", "name": "f", "parameters": {"const": 1.1}}],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low"},
        "prompt_cache_key": "k",
        "service_tier": "priority",
        "client_metadata": {"a": "b"},
        "something_new": [1],
    }

    told = codex_body(include=["web_search_call.results"], **kept)

    assert {name: told[name] for name in kept} == kept
    assert told["include"] == ["web_search_call.results", "reasoning.encrypted_content"]


def test_numbers_keep_their_spelling():
    body = b'{"model":"m","input":[{"role":"user","content":"x"}],"tools":[{"minimum":1.10,"maximum":1e400}]}'

    assert b'[{"minimum":1.10,"maximum":1e400}]' in described(only("codex"), body).body


def test_a_conversation_that_the_backend_does_not_have_is_not_forgotten_silently():
    assert codex_body(input="hi", previous_response_id="resp_1")["previous_response_id"] == "resp_1"
    assert "previous_response_id" not in codex_body(input="hi", previous_response_id=None)


ITEMS = [
    ({"role": "system", "content": "s"}, {"role": "developer", "content": "s"}),
    ({"type": "message", "role": "assistant", "id": "msg_1", "content": []}, {"type": "message", "role": "assistant", "content": []}),
    ({"type": "reasoning", "id": "rs_1", "summary": []}, {"type": "reasoning", "summary": []}),
    (
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
    ),
    (
        {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
    ),
    ({"type": "web_search_call", "id": "ws_1"}, {"type": "web_search_call", "id": "ws_1"}),
    (
        {"role": "user", "content": [{"type": "input_text", "text": "x", "prompt_cache_breakpoint": {}}, "odd"]},
        {"role": "user", "content": [{"type": "input_text", "text": "x"}, "odd"]},
    ),
    ("odd", "odd"),
    ({"type": 7, "id": "x"}, {"type": 7, "id": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("item", "told"), ITEMS)
def test_items_are_brought_to_what_an_unstored_conversation_may_hold(item, told):
    assert codex_body(input=[HI, item])["input"] == [HI, told]


def session(body: Mapping[str, object], headers=CURL) -> str:
    return described(only("codex"), json.dumps({"model": "m", **body}).encode(), headers=headers).headers["session-id"]


def test_a_conversation_keeps_its_session():
    first = {"instructions": "i", "input": [{"role": "developer", "content": "d"}, {"role": "user", "content": "a"}]}
    later = {
        **first,
        "input": [*first["input"], {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
    }
    other = {**first, "input": [{"role": "developer", "content": "d"}, {"role": "user", "content": "z"}]}

    assert session(first) == session(later)
    assert session(first) != session(other)
    assert session({**first, "prompt_cache_key": "k"}) == session({**other, "prompt_cache_key": "k"})
    assert session(first) != session(first, ((b"authorization", b"Bearer another-key"),))


# ---- Code Assist's envelope -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            b'{ "model": "m", "project":"theirs" , "user_prompt_id":"u","x":1.10,"request":{"session_id":"s"}}',
            b'{ "model": "m", "project":"p-1" , "user_prompt_id":"u","x":1.10,"request":{"session_id":"s"}}',
        ),
        (b' {"model":"m","request":{"project":"inner"}}', b' {"project":"p-1","model":"m","request":{"project":"inner"}}'),
        (b'{"project":null,"model":"m","request":{}}', b'{"project":"p-1","model":"m","request":{}}'),
    ],
)  # fmt: skip
def test_only_the_project_is_the_accounts(body, told):
    assert described(only("gemini", project_id="p-1"), body, is_native=True).body == told


def test_an_account_without_a_project_leaves_the_body_alone():
    assert described(only("gemini"), BODIES["gemini"]).body == BODIES["gemini"]


def test_counting_takes_the_request_and_its_model_only():
    inner = {"contents": [], "safetySettings": [], "model": "models/theirs"}
    body = json.dumps({"model": "x", "project": "p", "request": inner}).encode()

    told = described(only("gemini", project_id="p-1"), body, operation="count")

    assert json.loads(told.body) == {"request": {"contents": [], "model": "models/m"}}
    with pytest.raises(MissingParameter):
        described(only("gemini"), b'{"contents":[]}', operation="count")


# ---- accounts -------------------------------------------------------------------------------------------------------


def test_every_kind_of_file_has_its_provider():
    assert {kind: KINDS[kind].name for kind in ("claude", "codex", "gemini", "gemini-cli", "", "qwen")} == {
        "claude": "claude-oauth",
        "codex": "codex-oauth",
        "gemini": "gemini-cli",
        "gemini-cli": "gemini-cli",
        "": "gemini-cli",
        "qwen": "qwen",
    }
    assert all(provider.lead > 0 for provider in ACCOUNT_PROVIDERS)
    assert not {provider.name for provider in ACCOUNT_PROVIDERS} & {provider.name for provider in PROVIDERS}


@pytest.mark.parametrize("kind", BODIES)
def test_a_file_says_how_its_account_is_used(kind):
    account = only(kind, priority=3, weight=7, prefix="team", excluded_models=("a*",)).account

    assert (account.priority, account.weight, account.prefix) == (3, 7, "team")
    assert account.excluded == ("a*",)
    assert account.label == f"{kind}.json"
    assert account.serves
    assert account.families


@pytest.mark.parametrize("kind", BODIES)
def test_a_disabled_file_is_no_account(kind):
    assert upstreams(kind, is_disabled=True) == []


@pytest.mark.parametrize("kind", BODIES)
def test_an_account_hangs_on_its_files_name_alone(kind):
    changed = only(kind, email="x@y", plan="pro", expires_at=5.0, account_id="b", priority=2).account.id

    assert only(kind, account_id="a").account.id == changed
    assert only(kind, name="other.json").account.id != changed
    assert "json" not in changed


def test_each_project_is_an_account():
    found = upstreams("gemini", project_id="p-1, p-2,p-1")

    assert [upstream.project for upstream in found] == ["p-1", "p-2"]
    assert len({upstream.account.id for upstream in found}) == 2
    assert {upstream.source for upstream in found} == {"gemini.json"}
    assert only("gemini", project_id="p-1").account.id == found[0].account.id


def test_a_renamed_model_is_known_by_its_new_name_only():
    aliases = (("claude-opus-5", "best"), ("own-model", "mine"), ("claude-fable-5", "claude-sonnet-5"))

    account = only("claude", aliases=aliases).account

    assert {Served("best", "claude-opus-5"), Served("mine", "own-model")} <= set(account.serves)
    assert [one.name for one in account.serves if one.public == "claude-sonnet-5"] == ["claude-fable-5"]
    assert not {"claude-opus-5", "claude-fable-5"} & {one.public for one in account.serves}
    assert {"claude-opus-5", "own-model", "claude-fable-5"} <= set(account.excluded)


def test_a_swap_of_names_hides_neither():
    aliases = (("claude-opus-5", "claude-sonnet-5"), ("claude-sonnet-5", "claude-opus-5"))

    account = only("claude", aliases=aliases).account

    assert account.excluded == ()
    assert {(one.public, one.name) for one in account.serves} >= {(b, a) for a, b in aliases}


@pytest.mark.parametrize(
    ("plan", "has", "lacks"),
    [("free", "gpt-5.5", "gpt-5.4"), ("team", "gpt-5.4", "gpt-5.3-codex-spark"), ("Plus", "gpt-5.3-codex-spark", "gpt-5")],
)  # fmt: skip
def test_a_plan_decides_about_codexs_models(plan, has, lacks):
    names = {one.public for one in only("codex", plan=plan).account.serves}

    assert has in names
    assert lacks not in names


def test_an_unknown_plan_is_asked_for_all():
    assert {"gpt-5", "gpt-5.5"} <= {one.public for one in only("codex", plan="edu").account.serves}


def test_nobody_is_asked_for_a_list_of_models():
    assert [provider.listing(only(next(iter(provider.kinds)) or "gemini")) for provider in ACCOUNT_PROVIDERS] == [
        None
    ] * 4


def test_accounts_share_what_is_equal():
    one, other = only("claude", name="a.json"), only("claude", name="b.json")

    assert one.address is other.address
    assert one.head is other.head
    assert one.account.serves is other.account.serves


def test_no_head_holds_a_credential():
    for provider in (claude_accounts, codex_accounts, gemini_cli, qwen):
        kind = next(kind for kind, known in KINDS.items() if known is provider.PROVIDER and kind)
        assert b"authorization" not in only(kind).head
        assert TOKEN.reveal() not in repr(
            provider.PROVIDER.request(only(kind), Ask("m", BODIES.get(kind, BODIES["gemini"]), (), token=TOKEN))
        )
