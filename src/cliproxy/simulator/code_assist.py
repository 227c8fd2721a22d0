"""Code Assist, Google's API behind the Gemini CLI: setting a person up, and Gemini in an envelope.

Also the two Google services that a login needs beside it: who somebody is, and which projects somebody has.

Sources: https://github.com/google-gemini/gemini-cli (packages/core/src/code_assist),
https://cloud.google.com/resource-manager/reference/rest/v1/projects/list, checked 2026-10-20.
"""

import secrets
from datetime import UTC, datetime
from typing import Literal

import msgspec
from msgspec import Struct

from cliproxy.simulator import gemini
from cliproxy.simulator.accounts import Account, Accounts, Dead, Operation
from cliproxy.simulator.exchange import (
    EVENT_STREAM,
    Json,
    Received,
    Refused,
    Reply,
    no_stream,
    read_misfit,
    sse,
    write_json,
)

Node = dict[str, Json]
Written = dict[str, object]

SERVICE = "cloudcode-pa.googleapis.com"
MODELS = (
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-3-pro-preview",
    "gemini-3-flash-preview",
    "gemini-3.1-pro-preview",
    "gemini-3.1-flash-lite-preview",
    "gemini-3.5-flash",
    "gemini-3.5-flash-lite",
    "gemini-3.6-flash",
    "gemini-3.7-flash",
)

_CLOUD = "https://www.googleapis.com/auth/cloud-platform"
_INNER = frozenset(
    {"contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "generationConfig"}
    | {"cachedContent", "labels", "sessionId"}
)
_COUNTED = frozenset({"model", "contents", "systemInstruction", "tools", "toolConfig", "generationConfig"})
_TIERS = {"free-tier": "Gemini Code Assist for individuals", "standard-tier": "Gemini Code Assist Standard"}
_DONE_TYPE = "type.googleapis.com/google.internal.cloud.code.v1internal.OnboardUserResponse"


class _Wire(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    pass


class Envelope(_Wire, frozen=True):
    model: str
    request: Node
    project: str | None = None
    user_prompt_id: str | None = None
    enabled_credit_types: list[str] | None = None


class CountEnvelope(_Wire, frozen=True):
    request: Node


class Metadata(_Wire, frozen=True):
    ide_type: Literal["IDE_UNSPECIFIED", "VSCODE", "INTELLIJ", "GEMINI_CLI", "VSCODE_CLOUD_WORKSTATION"] | None = None
    platform: (
        Literal[
            "PLATFORM_UNSPECIFIED",
            "DARWIN_AMD64",
            "DARWIN_ARM64",
            "LINUX_AMD64",
            "LINUX_ARM64",
            "WINDOWS_AMD64",
        ]
        | None
    ) = None
    plugin_type: Literal["PLUGIN_UNSPECIFIED", "CLOUD_CODE", "GEMINI"] | None = None
    ide_version: str | None = None
    plugin_version: str | None = None
    ide_name: str | None = None
    update_channel: str | None = None
    duet_project: str | None = None


class LoadRequest(_Wire, frozen=True):
    metadata: Metadata | None = None
    cloudaicompanion_project: str | None = None
    mode: str | None = None


class OnboardRequest(_Wire, frozen=True):
    tier_id: str | None = None
    metadata: Metadata | None = None
    cloudaicompanion_project: str | None = None


class QuotaRequest(_Wire, frozen=True):
    project: str
    user_agent: str | None = None


class CodeAssist:
    """The endpoints under `/v1internal`, and Google's two others."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self.surface = msgspec.structs.replace(
            gemini.SURFACE, vendor="code-assist", admit=self._admit_to_cloud, refuse=_refuse
        )
        self.stream_surface = msgspec.structs.replace(self.surface, refuse=_refuse_stream)
        self.array_surface = msgspec.structs.replace(self.stream_surface, broken=gemini.broken_in_array)
        self.person_surface = no_stream("code-assist", self._admit_person, _refuse)

    # --- Gemini in an envelope ---

    def generate(self, received: Received) -> Reply:
        """POST /v1internal:generateContent."""
        request, model = self._opened(received)
        body = _wrapped(gemini.written(request, model, received), received)
        return Reply(headers=gemini.HEADERS, frames=(write_json(body),))

    def stream(self, received: Received) -> Reply:
        """POST /v1internal:streamGenerateContent?alt=sse."""
        request, model = self._opened(received)
        chunks = gemini.written_chunks(request, model, received)
        frames = tuple(sse(_wrapped(chunk, received)) for chunk in chunks)
        return Reply(content_type=EVENT_STREAM, headers=gemini.HEADERS, frames=frames)

    def stream_array(self, received: Received) -> Reply:
        """The same without `alt=sse`."""
        request, model = self._opened(received)
        chunks = gemini.written_chunks(request, model, received)
        return Reply(headers=gemini.HEADERS, frames=gemini.in_array(_wrapped(chunk, received) for chunk in chunks))

    def count(self, received: Received) -> Reply:
        """POST /v1internal:countTokens."""
        inner = _converted(gemini.read_body(received), CountEnvelope).request
        _check_names(inner, _COUNTED)
        model = str(inner.get("model", "")).removeprefix("models/")
        if model:
            _check_model(model)
        contents = {name: value for name, value in inner.items() if name != "model"}
        total = gemini.counted(gemini.checked(contents, model, ("request",)), model)
        return Reply(headers=gemini.HEADERS, frames=(write_json({"totalTokens": total}),))

    def _opened(self, received: Received) -> tuple[gemini.Request, str]:
        envelope = _converted(gemini.read_body(received), Envelope)
        _check_names(envelope.request, _INNER)
        _check_model(envelope.model)
        self._check_project(received, envelope.project)
        inner = {name: value for name, value in envelope.request.items() if name != "sessionId"}
        return gemini.checked(inner, envelope.model, ("request",)), envelope.model

    def _check_project(self, received: Received, project: str | None) -> None:
        account = self._account(received)
        if not account.project:
            raise Refused("Code Assist is not set up for this account.", status=403)
        if not project:
            raise Refused("Request is missing required field: project", param="project")
        if project not in (account.project, *account.projects):
            raise Refused(f"Permission denied on resource project {project}.", status=403, kind="CONSUMER_INVALID")

    # --- setting up ---

    def load(self, received: Received) -> Reply:
        """POST /v1internal:loadCodeAssist."""
        asked = _converted(gemini.read_body(received), LoadRequest)
        account = self._account(received)
        body: Written = {"gcpManaged": False}
        if account.project:
            body |= {"currentTier": _tier(account.tier), "cloudaicompanionProject": account.project}
        if not account.ineligible or account.project:
            body["allowedTiers"] = [_tier(account.tier) | {"isDefault": True}]
        if account.ineligible:
            body["ineligibleTiers"] = list(account.ineligible)
        if account.project and asked.cloudaicompanion_project in account.projects:
            body["cloudaicompanionProject"] = asked.cloudaicompanion_project
        return Reply(headers=gemini.HEADERS, frames=(write_json(body),))

    def onboard(self, received: Received) -> Reply:
        """POST /v1internal:onboardUser; asked again it tells how far the same operation is."""
        asked = _converted(gemini.read_body(received), OnboardRequest)
        account = self._account(received)
        if account.ineligible or asked.tier_id != account.tier:
            raise Refused(f"User is not eligible for tier {asked.tier_id}.", status=403)
        project = self._project_of(account, asked.cloudaicompanion_project)
        running = self._accounts.operations
        wanted = Operation(account.email, project)
        name = next((name for name, row in list(running.items()) if row.is_for(wanted)), None)
        if name is None:
            name = f"operations/cs.{secrets.token_hex(8)}"
            running[name] = wanted
        return self._told(name)

    def operation(self, received: Received) -> Reply:
        """GET /v1internal/operations/{name}."""
        return self._told(received.path.removeprefix("/v1internal/"))

    def _project_of(self, account: Account, wanted: str | None) -> str:
        """Who may have the free tier gets a project and may bring none; a licence needs one of the person's own."""
        if account.tier == "standard-tier":
            if not wanted:
                raise Refused("Precondition check failed.", kind="FAILED_PRECONDITION")
            if wanted not in account.projects:
                raise Refused(f"Permission denied on resource project {wanted}.", status=403, kind="CONSUMER_INVALID")
            return wanted
        if wanted and account.tier == "free-tier":
            raise Refused("Precondition check failed.", kind="FAILED_PRECONDITION")
        return account.companion

    def _told(self, name: str) -> Reply:
        row = self._accounts.operations.get(name)
        if row is None:
            raise Refused("Requested entity was not found.", status=404)
        body: Written = {"name": name, "done": row.polls >= self._accounts.polls}
        row.polls += 1
        if body["done"]:
            account = self._accounts.find("gemini", row.email)
            self._accounts.add(msgspec.structs.replace(account, project=row.project))
            project = {"id": row.project, "name": row.project, "projectNumber": "123456789012"}
            body["response"] = {"@type": _DONE_TYPE, "cloudaicompanionProject": project}
        return Reply(headers=gemini.HEADERS, frames=(write_json(body),))

    # --- the rest ---

    def quota(self, received: Received) -> Reply:
        """POST /v1internal:retrieveUserQuota."""
        asked = _converted(gemini.read_body(received), QuotaRequest)
        self._check_project(received, asked.project)
        midnight = datetime.fromtimestamp(self._accounts.now() // 86_400 * 86_400 + 86_400, UTC)
        buckets = [
            {
                "modelId": model,
                "tokenType": "REQUESTS",
                "remainingFraction": 0.75,
                "remainingAmount": "750",
                "resetTime": midnight.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for model in MODELS
        ]
        return Reply(headers=gemini.HEADERS, frames=(write_json({"buckets": buckets}),))

    def nothing(self, received: Received) -> Reply:
        """Settings and telemetry: taken, and answered with an empty object."""
        del received
        return Reply(headers=gemini.HEADERS, frames=(b"{}",))

    def userinfo(self, received: Received) -> Reply:
        """GET /oauth2/v2/userinfo."""
        account = self._account(received)
        body: Json = {
            "id": str(int(account.id[:8], 16)),
            "email": account.email,
            "verified_email": True,
            "name": account.email.partition("@")[0],
        }
        return Reply(headers=gemini.HEADERS, frames=(write_json(body),))

    def projects(self, received: Received) -> Reply:
        """GET /v1/projects of the resource manager."""
        account = self._account(received)
        rows: list[Json] = [
            {"projectNumber": f"{number}", "projectId": name, "name": name, "lifecycleState": "ACTIVE"}
            for number, name in enumerate(account.projects, start=100_000_000_001)
        ]
        return Reply(headers=gemini.HEADERS, frames=(write_json({"projects": rows} if rows else {}),))

    def _account(self, received: Received) -> Account:
        return self._admitted(received)[0]

    def _admit_to_cloud(self, received: Received) -> None:
        """With a token that is good for the cloud."""
        if _CLOUD not in self._admitted(received)[1].split():
            raise Refused(
                "Request had insufficient authentication scopes.", status=403, kind="ACCESS_TOKEN_SCOPE_INSUFFICIENT"
            )

    def _admit_person(self, received: Received) -> None:
        """With any token of Google's that tells an e-mail."""
        self._admitted(received)

    def _admitted(self, received: Received) -> tuple[Account, str]:
        if not received.bearer:
            raise Refused(
                "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "
                "other valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project.",
                status=401,
                kind="CREDENTIALS_MISSING",
            )
        try:
            return self._accounts.check("gemini", received.bearer)
        except Dead as dead:
            raise Refused(
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project.",
                status=401,
                kind="ACCESS_TOKEN_TYPE_UNSUPPORTED" if dead.death == "unknown" else "ACCESS_TOKEN_EXPIRED",
            ) from dead


def _refuse(refused: Refused, request_id: str) -> Reply:
    return Reply(status=refused.status, headers=gemini.HEADERS, frames=(write_json(_refusal(refused)),))


def _refuse_stream(refused: Refused, request_id: str) -> Reply:
    """Streams are refused in an array, with `alt=sse` too."""
    return Reply(status=refused.status, headers=gemini.HEADERS, frames=(write_json([_refusal(refused)]),))


def _refusal(refused: Refused) -> Node:
    if refused.kind == "FAILED_PRECONDITION":
        return {"error": {"code": 400, "message": refused.message, "status": "FAILED_PRECONDITION"}}
    return gemini.refusal(refused, SERVICE)


def _converted(body: Json, shape: type[gemini.Shape]) -> gemini.Shape:
    try:
        return msgspec.convert(body, shape)
    except msgspec.ValidationError as error:
        raise gemini.misfit(read_misfit(error)) from error


def _check_names(inner: Node, known: frozenset[str]) -> None:
    strange = next((name for name in inner if name not in known), None)
    if strange is not None:
        raise gemini.unknown_field(strange, ("request",))


def _check_model(name: str) -> None:
    if name not in MODELS:
        raise Refused("Requested entity was not found.", status=404)


def _wrapped(answer: Written, received: Received) -> Written:
    return {"response": answer, "traceId": received.seed[:16]}


def _tier(name: str) -> Written:
    title = _TIERS.get(name, "Gemini Code Assist")
    is_licensed = name == "standard-tier"
    return {"id": name, "name": title, "description": title, "userDefinedCloudaicompanionProject": is_licensed}
