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
from cliproxy.providers.base import Ask, Proxies, Upstream, verdict_of
from cliproxy.providers.file_accounts import account_of_file, bearer, served, shared_address, shared_head
from cliproxy.providers.logins import gemini as login
from cliproxy.providers.models import GEMINI_CLI
from cliproxy.routing.verdict import Verdict
from cliproxy.wire import google_errors, json
from cliproxy.wire.http import Headers, HttpRequest
from cliproxy.wire.waits import until

_LEAD_SECONDS = 5 * 60.0
_LINES: Mapping[str, str] = {"content-type": "application/json"}
_MODELS = served(GEMINI_CLI)
_FAMILIES = ("gemini-",)
_MINUTE = 60.0
_FOR_GOOD = 365 * 86_400.0
_SUSPENDED = "TOS_VIOLATION"
_LINKS = ("validation_link", "activationUrl", "appeal_url")


class GeminiCli:
    name = "gemini-cli"
    owner = "google"
    kinds = login.KINDS
    grants: Grants = login
    lead = _LEAD_SECONDS

    def account_upstreams(self, file: AccountFile, config: Config, proxies: Proxies) -> Iterable[Upstream]:
        if file.is_disabled:
            return
        address = shared_address(config.endpoints.gemini_cli.base_url.rstrip("/"), file, config, proxies)
        head, own = shared_head(_LINES, file)
        for project in login.projects_of(file) or ("",):
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

    def judge(self, upstream: Upstream, status: int, headers: Headers, body: bytes, now_at: float) -> Verdict:
        """Quotas are counted per model. An account that the vendor has suspended is not asked again."""
        told = google_errors.read_told(body)
        problem = _plain(upstream.dialect.read_error(status, body), told, upstream.project)
        verdict = verdict_of(problem, headers, now_at, _reset(told, problem, now_at))
        if verdict.fault == "exhausted":
            return structs.replace(verdict, scope="model")
        if verdict.fault == "auth" and told.reason == _SUSPENDED:
            return structs.replace(verdict, wait=_FOR_GOOD)
        return verdict

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


def _reset(told: google_errors.Told, problem: Problem, now_at: float) -> float | None:
    """When the quota is full again, where only a time says so, or how the quota is called."""
    if problem.retry_after is not None or problem.kind not in ("quota", "rate_limit"):
        return None
    if stamp := told.metadata.get("quotaResetTimeStamp"):
        return until(stamp.encode(), now_at)
    return _MINUTE if any("PerMinute" in quota for quota in told.quotas) else None


PROVIDER = GeminiCli()
