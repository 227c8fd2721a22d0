"""How each provider describes its requests: addresses, credentials, headers, proxies. Nothing here performs HTTP."""

import pytest

from cliproxy.config.schema import (
    ClaudeKey,
    CodexKey,
    CompatibilityKey,
    Config,
    GeminiKey,
    Model,
    OpenAICompatibility,
)
from cliproxy.providers import claude, codex, gemini, openai_compat
from cliproxy.providers.base import USER_AGENT, Ask, Proxies, Upstream, address_of
from cliproxy.wire.secrets import Secret

SECRET = Secret("sk-ant-key-1234567890")
MODELS = (Model(name="m"),)


def only(provider, config: Config, proxies: Proxies | None = None) -> Upstream:
    (upstream,) = provider.upstreams(config, proxies or Proxies())
    return upstream


def sent(provider, config: Config, **ask) -> tuple[str, dict[str, str]]:
    upstream = only(provider, config)
    request = provider.request(upstream, Ask(**({"model": "m", "body": b"{}", "headers": ()} | ask)))
    lines = [line.split(": ", 1) for line in request.head.decode().split("\r\n") if line]
    assert len(lines) == len(dict(lines)), "a header twice"
    origin = request.origin
    return f"{origin.scheme}://{origin.authority}{request.target.decode()}", dict(lines)


def claude_config(base_url: str = "", **entry) -> Config:
    return Config(claude_api_key=(ClaudeKey(api_key=SECRET, base_url=base_url, **entry),))


ADDRESSES = [
    (claude.PROVIDER, claude_config(), {}, "https://api.anthropic.com/v1/messages"),
    (claude.PROVIDER, claude_config("https://relay.example/v1/"), {}, "https://relay.example/v1/messages"),
    (
        claude.PROVIDER,
        claude_config("http://h:8080/a"),
        {"operation": "count"},
        "http://h:8080/a/v1/messages/count_tokens",
    ),
    (
        gemini.PROVIDER,
        Config(generative_language_api_key=(SECRET,)),
        {"is_stream": True},
        "https://generativelanguage.googleapis.com/v1beta/models/m:streamGenerateContent?alt=sse",
    ),
    (
        gemini.PROVIDER,
        Config(gemini_api_key=(GeminiKey(api_key=SECRET, base_url="https://g.example/v1beta"),)),
        {"model": "tuned/a b"},
        "https://g.example/v1beta/models/tuned%2Fa%20b:generateContent",
    ),
    (
        gemini.PROVIDER,
        Config(gemini_api_key=(GeminiKey(api_key=SECRET),)),
        {"operation": "count"},
        "https://generativelanguage.googleapis.com/v1beta/models/m:countTokens",
    ),
    (
        codex.PROVIDER,
        Config(codex_api_key=(CodexKey(api_key=SECRET),)),
        {},
        "https://api.openai.com/v1/responses",
    ),
    (
        codex.PROVIDER,
        Config(codex_api_key=(CodexKey(api_key=SECRET, base_url="https://c.example/x/"),)),
        {},
        "https://c.example/x/responses",
    ),
    (
        openai_compat.PROVIDER,
        Config(openai_compatibility=(OpenAICompatibility(name="o", base_url="https://o.example/api/v4/"),)),
        {},
        "https://o.example/api/v4/chat/completions",
    ),
]


@pytest.mark.parametrize(("provider", "config", "ask", "url"), ADDRESSES)
def test_addresses_are_composed(provider, config, ask, url):
    assert sent(provider, config, **ask)[0] == url


@pytest.mark.parametrize(
    ("base", "style", "carriers"),
    [
        ("", None, {"x-api-key": "sk-ant-key-1234567890"}),
        ("https://relay.example", None, {"authorization": "Bearer sk-ant-key-1234567890"}),
        ("", "bearer", {"authorization": "Bearer sk-ant-key-1234567890"}),
        ("https://relay.example", "x-api-key", {"x-api-key": "sk-ant-key-1234567890"}),
        (
            "",
            "both",
            {"x-api-key": "sk-ant-key-1234567890", "authorization": "Bearer sk-ant-key-1234567890"},
        ),
    ],
)
def test_claudes_key_has_its_carrier(base, style, carriers):
    _, headers = sent(claude.PROVIDER, claude_config(base, auth_style=style))

    assert {name: headers[name] for name in ("x-api-key", "authorization") if name in headers} == carriers


def test_an_entrys_headers_win_and_never_break_the_framing():
    own = {"User-Agent": "mine", "X-Api-Key": "other", "Host": "x", "Transfer-Encoding": "chunked", "X-A": "1"}
    config = claude_config(headers={name: Secret(value) for name, value in own.items()})
    caller = ((b"user-agent", b"claude-cli/1"), (b"anthropic-beta", b"b1"))

    _, headers = sent(claude.PROVIDER, config, headers=caller, is_native=True)

    assert headers["user-agent"] == "mine"
    assert headers["x-api-key"] == "other"
    assert headers["x-a"] == "1"
    assert headers["anthropic-beta"] == "b1"
    assert not {"host", "transfer-encoding"} & headers.keys()


def test_a_server_without_keys_gets_no_credential():
    config = Config(openai_compatibility=(OpenAICompatibility(name="o", base_url="http://o.example"),))

    _, headers = sent(openai_compat.PROVIDER, config)

    assert "authorization" not in headers
    assert headers["user-agent"] == f"{USER_AGENT} (o)"


def test_several_keys_are_several_accounts_and_disabled_entries_none():
    keys = tuple(CompatibilityKey(api_key=Secret(f"key-{number}"), weight=number) for number in (1, 2))
    entry = OpenAICompatibility(name="o", base_url="http://o.example", api_key_entries=keys, weight=5)
    off = OpenAICompatibility(name="off", base_url="http://o.example", api_keys=(SECRET,), disabled=True)
    config = Config(openai_compatibility=(entry, off, OpenAICompatibility(name="nowhere")))

    upstreams = list(openai_compat.PROVIDER.upstreams(config, Proxies()))

    assert [upstream.account.weight for upstream in upstreams] == [5, 2]
    assert len({upstream.account.id for upstream in upstreams}) == 2


def test_nothing_shows_a_credential():
    upstream = only(claude.PROVIDER, claude_config())
    request = claude.PROVIDER.request(upstream, Ask("m", b"{}", ()))

    shown = repr(upstream) + repr(request) + repr(upstream.account) + repr(upstream.address)

    assert SECRET.reveal() not in shown


def test_an_account_keeps_its_id_whatever_else_changes():
    ids = {
        only(claude.PROVIDER, config).account.id
        for config in (claude_config(), claude_config(models=MODELS), claude_config(priority=3, prefix="x"))
    }

    assert len(ids) == 1


# ---- proxies --------------------------------------------------------------------------------------------------------

FAR, NEAR = "https://api.example", "http://127.0.0.1:8080"
ENVIRONMENT = Proxies("http://env-http:1", "http://env-https:1", ("internal.example", ".corp", "*.lab"))
FILE = Secret("socks5://file:1080")
ROWS = [
    # url, the entry's, the file's, no-proxy, what leads there
    (FAR, "", "", (), "http://env-https:1"),
    ("http://api.example", "", "", (), "http://env-http:1"),
    (FAR, "", FILE, (), "socks5://file:1080"),
    (FAR, "http://entry:1", FILE, (), "http://entry:1"),
    (FAR, "direct", FILE, (), ""),
    (FAR, "none", "", (), ""),
    (FAR, "", Secret("direct"), (), ""),
    (FAR, "", FILE, ("api.example",), ""),
    (FAR, "", FILE, ("*.example",), ""),
    (FAR, "", "", (".example",), ""),
    (NEAR, "", FILE, (), ""),
    (NEAR, "", "", (), ""),
    (NEAR, "http://entry:1", FILE, (), "http://entry:1"),
    ("http://localhost:1", "", FILE, (), ""),
    ("http://[::1]:1", "", FILE, (), ""),
    ("https://internal.example", "", "", (), ""),
    ("https://internal.example", "", FILE, (), "socks5://file:1080"),
    ("https://a.corp", "", "", (), ""),
    ("https://b.lab", "", "", (), ""),
    ("https://notinternal.example", "", "", (), "http://env-https:1"),
]


@pytest.mark.parametrize(("url", "entry", "file", "exempt", "proxy"), ROWS)
def test_the_nearest_proxy_leads_to_an_upstream(url, entry, file, exempt, proxy):
    config = Config(proxy_url=file or Secret(), no_proxy=exempt)

    assert address_of(url, Secret(entry), config, ENVIRONMENT).origin.proxy == proxy


def test_a_star_exempts_every_host_from_the_environment():
    proxies = Proxies("http://env:1", "http://env:1", ("*",))

    assert address_of(FAR, Secret(), Config(), proxies).origin.proxy == ""
