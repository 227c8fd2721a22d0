"""Gemini by a Google login: Code Assist, the API behind the Gemini CLI. A login with several projects is as many accounts.

The vendor retired the service for individuals in June 2026. Accounts that there are are still asked when a request wants
them, and rest when they are refused.

Source: https://github.com/google-gemini/gemini-cli (packages/core/src/code_assist), checked 2026-11-24.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Raw, structs

from cliproxy.canon.errors import MissingParameter, Problem
from cliproxy.config.schema import Config
from cliproxy.dialects.gemini_cli import DIALECT
from cliproxy.providers import gemini
from cliproxy.providers.accounts import AccountFile, Grants
from cliproxy.providers.base import Ask, Proxies, Refusal, Upstream, judged
from cliproxy.providers.file_accounts import account_of_file, bearer, served, shared_address, shared_head
from cliproxy.providers.logins import gemini as google_login
from cliproxy.providers.models import GEMINI_CLI
from cliproxy.providers.signs import Row, Table, both, login, said
from cliproxy.routing.limits import Limit
from cliproxy.routing.verdict import Verdict
from cliproxy.wire import google_errors, json
from cliproxy.wire.http import Headers, HttpRequest

_LEAD_SECONDS = 5 * 60.0
_LINES: Mapping[str, str] = {"content-type": "application/json"}
_MODELS = served(GEMINI_CLI)
_FAMILIES = ("gemini-",)
_LINKS = ("validation_link", "activationUrl", "appeal_url")


class GeminiCli:
    name = "gemini-cli"
    owner = "google"
    limit_prefixes: tuple[bytes, ...] = ()
    kinds = google_login.KINDS
    grants: Grants = google_login
    lead = _LEAD_SECONDS

    def account_upstreams(self, file: AccountFile, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        if file.is_disabled:
            return
        address = shared_address(config.endpoints.gemini_cli.base_url.rstrip("/"), file, config, proxies)
        head, own = shared_head(_LINES, file)
        for project in google_login.projects_of(file) or ("",):
            account = account_of_file(self.name, file, _MODELS, _FAMILIES, project)
            yield Upstream(
                account, self, DIALECT, DIALECT.fit, address, head, own=own, source=file.name, project=project
            )

    def request(self, upstream: Upstream, ask: Ask) -> HttpRequest:
        is_count = ask.operation == "count"
        body = _counted(ask) if is_count else _for_project(ask.body, upstream.project)
        query = "?alt=sse" if ask.is_stream else ""
        target = f"{upstream.address.prefix}/v1internal:{gemini.method_of(ask)}{query}".encode()
        head = upstream.headed(bearer(ask), gemini.caller_lines(ask))
        return HttpRequest(b"POST", upstream.address.origin, target, head, body)

    def judge(self, upstream: Upstream, refusal: Refusal, now_at: float) -> Verdict:
        told = google_errors.read_told(refusal.body)
        problem = _plain(refusal.problem, told, upstream.project)
        return judged(upstream, structs.replace(refusal, problem=problem), now_at, _TABLE)

    def limits(self, headers: Headers, body: bytes, now_at: float) -> tuple[Limit, ...]:
        return gemini.limits(body, now_at, lambda _: None) if body else ()

    def can_count(self) -> bool:
        return True

    def listing(self, upstream: Upstream) -> HttpRequest | None:
        return None

    def read_listing(self, body: bytes) -> tuple[str, ...]:
        return ()


def _for_project(body: bytes, project: str) -> bytes:
    """`body` with the account's project; all else stays as it came."""
    if not project:
        return body
    name = json.encode(project)
    if json.find(body, ("project",)) is not None:
        return json.replaced(body, ("project",), name)
    opening = body.index(b"{") + 1
    return b'%b"project":%b,%b' % (body[:opening], name, body[opening:])


def _counted(ask: Ask) -> bytes:
    """Counting takes the inner request only, with the model in it, and refuses safety settings."""
    inner = json.members(ask.body).get("request")
    if inner is None:
        raise MissingParameter("`request` is required.", param="request")
    request = json.members(inner)
    request.pop("safetySettings", None)
    request["model"] = Raw(json.encode(f"models/{ask.model}"))
    return json.encode({"request": request})


def _plain(problem: Problem, told: google_errors.Told, project: str) -> Problem:
    """`problem` as callers may see it, who are not to learn of projects; with the link that says what to do."""
    if problem.kind == "not_found":
        problem = structs.replace(problem, kind="model_not_found")
    message, native = problem.message, problem.native
    if project:
        message = message.replace(project, "[project]")
        native = native.replace(project.encode(), b"[project]")
    links = [link for name in _LINKS if (link := told.metadata.get(name))] or list(told.links)
    if problem.kind == "permission" and links and links[0].startswith("https://"):
        message = f"{message} See {links[0]}"
    return structs.replace(problem, message=message, native=native)


_TABLE: Table = (
    Row(both(login, said("TOS_VIOLATION")), "suspended", "account", waits=()),
    *gemini.table(),
)
PROVIDER = GeminiCli()
