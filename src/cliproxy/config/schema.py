"""The whole configuration file as frozen Structs, with the documented defaults.

A key is a field here, a row in `config.example.yaml` and a row in `docs/configuration.md`; the house test fails until
all three exist. What a value must look like stands beside its type: an alias such as `BaseUrl` carries its rule, and
`document.read` enforces it with the line it was broken on. Building a Struct by hand checks nothing.

Shapes follow the file. Where the file offers two spellings of one thing, both are fields and a property joins them:
read `gemini_keys`, `management_key`, `management_allows_remote` and `OpenAICompatibility.keys`, not the halves.
Seconds are floats; 0 means none. Paths are as written: whoever opens them expands `~`. Structs that hold a mapping
(`headers`, `fallbacks`) compare by value but do not hash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from cliproxy.config import rules
from cliproxy.wire.secrets import Secret

_INT64_MAX = 2**63 - 1
_MIB = 1024 * 1024

# -- the vocabulary of values -----------------------------------------------------------------------------------------


class Hint(Struct, frozen=True, kw_only=True):
    """What msgspec's own constraints cannot say about a value; `document.read` acts on it."""

    rule: Callable[[str], str] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict[str, str])
    floor: int | None = None


def _checked(rule: Callable[[str], str]) -> Meta:
    return Meta(extra={"hint": Hint(rule=rule)})


Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=0, le=_INT64_MAX)]
# Older files hold -1 for "never"; they must keep loading, so below the floor is a warning and the floor.
Retries = Annotated[int, Meta(le=_INT64_MAX, extra={"hint": Hint(floor=0)})]
Priority = Annotated[int, Meta(ge=-_INT64_MAX, le=_INT64_MAX)]
Weight = Annotated[int, Meta(ge=0, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1, le=_INT64_MAX)]
Seconds = Annotated[float, Meta(ge=0)]
"""A number of seconds, or a Go-like text: `1h`, `90s`, `500ms`."""

Percent = Annotated[float, Meta(ge=0, le=100)]

Text = Annotated[str, _checked(rules.plain_text)]
Name = Annotated[str, _checked(rules.not_empty)]
Host = Annotated[str, _checked(rules.listen_host)]
Network = Annotated[str, _checked(rules.network)]
Origin = Annotated[str, _checked(rules.cors_origin)]
BaseUrl = Annotated[str, _checked(rules.base_url)]
Prefix = Annotated[str, _checked(rules.name_prefix)]

ProxyUrl = Annotated[Secret, _checked(rules.proxy_url)]
"""A secret, because it may hold a password. Empty: the environment's proxy, or for an entry the global one."""
ClientKey = Annotated[Secret, _checked(rules.not_empty)]
UpstreamKey = Annotated[Secret, _checked(rules.upstream_key)]
ManagementKey = Annotated[Secret, _checked(rules.management_key)]
HeaderName = Annotated[str, _checked(rules.header_name)]
HeaderValue = Annotated[Secret, _checked(rules.header_value)]

AuthStyle = Literal["x-api-key", "bearer", "both"]
Strategy = Literal["round-robin", "fill-first", "weighted"]
STRATEGY_ALIASES: Mapping[str, str] = {
    "": "round-robin",
    "rr": "round-robin",
    "ff": "fill-first",
    "wrr": "weighted",
    "weighted-round-robin": "weighted",
}
StrategyName = Annotated[Strategy, Meta(extra={"hint": Hint(aliases=STRATEGY_ALIASES)})]


# -- upstream entries -------------------------------------------------------------------------------------------------


class Model(Struct, frozen=True, kw_only=True, rename="kebab"):
    """One model of an entry. Callers say `public_name`, the upstream is told `name`."""

    name: Name
    alias: Text = ""
    display_name: Text = ""
    max_context_length: Count = 0

    @property
    def public_name(self) -> str:
        return self.alias or self.name


class UpstreamEntry(Struct, frozen=True, kw_only=True, rename="kebab"):
    """What every upstream entry of the file can say. Inherited, because it is one vocabulary and must stay one.

    `base_url` and `proxy_url`: empty means the endpoint's or the global one. Empty `models`: all that the upstream
    has. `excluded_models` are exact names or patterns with `*`. Weight 0 takes no share in weighted routing.
    """

    base_url: BaseUrl = ""
    proxy_url: ProxyUrl = Secret()
    headers: Mapping[HeaderName, HeaderValue] = field(default_factory=dict[str, Secret])
    prefix: Prefix = ""
    priority: Priority = 0
    weight: Weight = 1
    models: tuple[Model, ...] = ()
    excluded_models: tuple[Name, ...] = ()
    disabled: bool = False


class GeminiKey(UpstreamEntry, frozen=True, kw_only=True, rename="kebab"):
    api_key: UpstreamKey


class ClaudeKey(UpstreamEntry, frozen=True, kw_only=True, rename="kebab"):
    """`auth_style` None: the provider's rule decides by key and address."""

    api_key: UpstreamKey
    auth_style: AuthStyle | None = None


class CodexKey(UpstreamEntry, frozen=True, kw_only=True, rename="kebab"):
    api_key: UpstreamKey


class CompatibilityKey(Struct, frozen=True, kw_only=True, rename="kebab"):
    api_key: UpstreamKey
    proxy_url: ProxyUrl = Secret()
    weight: Weight = 1


class OpenAICompatibility(UpstreamEntry, frozen=True, kw_only=True, rename="kebab"):
    """An upstream that speaks OpenAI Chat. Names are unique, case ignored; without `base_url` it is inactive."""

    name: Name
    api_keys: tuple[UpstreamKey, ...] = ()
    api_key_entries: tuple[CompatibilityKey, ...] = ()

    @property
    def keys(self) -> tuple[CompatibilityKey, ...]:
        """Both spellings, `api-key-entries` first, each key once. Empty: the upstream is asked without a key."""
        entries: dict[Secret, CompatibilityKey] = {}
        for entry in (*self.api_key_entries, *(CompatibilityKey(api_key=key) for key in self.api_keys)):
            entries.setdefault(entry.api_key, entry)
        return tuple(entries.values())


# -- sections ---------------------------------------------------------------------------------------------------------


class QuotaExceeded(Struct, frozen=True, kw_only=True, rename="kebab"):
    switch_project: bool = True
    switch_preview_model: bool = True


class Routing(Struct, frozen=True, kw_only=True, rename="kebab"):
    strategy: StrategyName = "round-robin"
    session_affinity: bool = True
    session_affinity_ttl: Seconds = 3600.0
    quota_watermark: Percent = 5.0


class Timeouts(Struct, frozen=True, kw_only=True, rename="kebab"):
    connect: Seconds = 10.0
    first_event: Seconds = 0.0
    idle: Seconds = 300.0
    drain: Seconds = 30.0


class Streaming(Struct, frozen=True, kw_only=True, rename="kebab"):
    keepalive_seconds: Seconds = 15.0


class Limits(Struct, frozen=True, kw_only=True, rename="kebab"):
    max_body_bytes: Bytes = 128 * _MIB
    max_header_bytes: Bytes = 64 * 1024


class RemoteManagement(Struct, frozen=True, kw_only=True, rename="kebab"):
    allow_remote: bool = False
    secret_key: ManagementKey = Secret()


class CatalogRow(Struct, frozen=True, kw_only=True, rename="kebab"):
    """A model the built-in table lacks, or describes wrongly. Sizes are tokens; 0 means unknown."""

    id: Name
    family: Name
    context: Count = 0
    output: Count = 0


class Models(Struct, frozen=True, kw_only=True, rename="kebab"):
    """`fallbacks`: when a model is out of quota, the ones to try in its place, in order."""

    catalog: tuple[CatalogRow, ...] = ()
    fallbacks: Mapping[Name, tuple[Name, ...]] = field(default_factory=dict[str, tuple[str, ...]])


# -- endpoints: every upstream and OAuth address can be moved ---------------------------------------------------------


class GeminiEndpoint(Struct, frozen=True, kw_only=True, rename="kebab"):
    base_url: BaseUrl = "https://generativelanguage.googleapis.com"


class GeminiCliEndpoint(Struct, frozen=True, kw_only=True, rename="kebab"):
    """`client_secret` is in no file of this repository; empty means the other places are searched."""

    base_url: BaseUrl = "https://cloudcode-pa.googleapis.com"
    authorize_url: BaseUrl = "https://accounts.google.com/o/oauth2/v2/auth"
    token_url: BaseUrl = "https://oauth2.googleapis.com/token"
    userinfo_url: BaseUrl = "https://www.googleapis.com/oauth2/v2/userinfo"
    client_id: Text = "681255809395-oo8ft2oprdrnp9e3aqf6av3hmdib135j.apps.googleusercontent.com"
    client_secret: Secret = Secret()
    callback_host: Host = "127.0.0.1"
    callback_port: Port = 8085


class ClaudeEndpoint(Struct, frozen=True, kw_only=True, rename="kebab"):
    base_url: BaseUrl = "https://api.anthropic.com"
    authorize_url: BaseUrl = "https://claude.ai/oauth/authorize"
    token_url: BaseUrl = "https://platform.claude.com/v1/oauth/token"
    client_id: Text = "9d1c250a-e61b-44d9-88ed-5944d1962f5e"
    callback_host: Host = "127.0.0.1"
    callback_port: Port = 54545


class CodexEndpoint(Struct, frozen=True, kw_only=True, rename="kebab"):
    """`base_url` serves OAuth accounts, `api_base_url` serves API keys."""

    base_url: BaseUrl = "https://chatgpt.com/backend-api/codex"
    api_base_url: BaseUrl = "https://api.openai.com/v1"
    authorize_url: BaseUrl = "https://auth.openai.com/oauth/authorize"
    token_url: BaseUrl = "https://auth.openai.com/oauth/token"
    client_id: Text = "app_EMoamEEZ73f0CkXaXp7hrann"
    callback_host: Host = "127.0.0.1"
    callback_port: Port = 1455


class QwenEndpoint(Struct, frozen=True, kw_only=True, rename="kebab"):
    """`base_url` empty: each account's `resource_url` decides."""

    base_url: BaseUrl = ""
    device_url: BaseUrl = "https://chat.qwen.ai/api/v1/oauth2/device/code"
    token_url: BaseUrl = "https://chat.qwen.ai/api/v1/oauth2/token"
    client_id: Text = "f0304373b74a44d2b584a3fb70ca9e56"


class Endpoints(Struct, frozen=True, kw_only=True, rename="kebab"):
    gemini: GeminiEndpoint = GeminiEndpoint()
    gemini_cli: GeminiCliEndpoint = GeminiCliEndpoint()
    claude: ClaudeEndpoint = ClaudeEndpoint()
    codex: CodexEndpoint = CodexEndpoint()
    qwen: QwenEndpoint = QwenEndpoint()


# -- the file ---------------------------------------------------------------------------------------------------------


class Config(Struct, frozen=True, kw_only=True, rename="kebab"):
    """The file. `Config()` is an empty one."""

    host: Host = "127.0.0.1"
    port: Port = 8317
    auth_dir: Text = "~/.cli-proxy-api"
    state_dir: Text = ""
    debug: bool = False
    request_log: bool = False
    show_losses: bool = False
    logging_to_file: bool = False

    api_keys: tuple[ClientKey, ...] = ()
    allow_unauthenticated: bool = False
    allow_localhost_unauthenticated: bool = False
    trusted_proxies: tuple[Network, ...] = ()
    cors_origins: tuple[Origin, ...] = ("*",)
    remote_management: RemoteManagement = RemoteManagement()
    allow_remote_management: bool | None = None
    remote_management_key: ManagementKey | None = None

    proxy_url: ProxyUrl = Secret()
    no_proxy: tuple[Name, ...] = ()
    request_retry: Retries = 3
    max_retry_credentials: Count = 0
    max_retry_interval: Seconds = 30.0
    quota_exceeded: QuotaExceeded = QuotaExceeded()
    routing: Routing = Routing()
    timeouts: Timeouts = Timeouts()
    streaming: Streaming = Streaming()
    limits: Limits = Limits()

    generative_language_api_key: tuple[UpstreamKey, ...] = ()
    gemini_api_key: tuple[GeminiKey, ...] = ()
    claude_api_key: tuple[ClaudeKey, ...] = ()
    codex_api_key: tuple[CodexKey, ...] = ()
    openai_compatibility: tuple[OpenAICompatibility, ...] = ()

    models: Models = Models()
    endpoints: Endpoints = Endpoints()

    @property
    def gemini_keys(self) -> tuple[GeminiKey, ...]:
        """All Gemini keys, objects first, then the plain ones."""
        return self.gemini_api_key + tuple(GeminiKey(api_key=key) for key in self.generative_language_api_key)

    @property
    def management_key(self) -> Secret:
        """The flat spelling wins when present. Plaintext or a bcrypt hash; empty switches the plane off."""
        return self.remote_management.secret_key if self.remote_management_key is None else self.remote_management_key

    @property
    def management_allows_remote(self) -> bool:
        if self.allow_remote_management is None:
            return self.remote_management.allow_remote
        return self.allow_remote_management

    @property
    def management_key_is_hashed(self) -> bool:
        return rules.is_bcrypt(self.management_key.reveal())
