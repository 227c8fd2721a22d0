"""Getting a Google Cloud project for an account from Code Assist, as Google's own program does it.

    load --> has a tier already --------------------------> project
      |----> may have one --> onboard --> done -----------> project, or none: the end
      |                          '--> not yet --(5 s)--> asked again, for 5 minutes
      '----> may have none: refused, with the vendor's reasons

* The free tier is onboarded without a project: Google refuses a request that names one. There the project that Google
  assigns is the one; elsewhere a project that the person asked for wins.
* A refusal for the perimeter of an organisation (`SECURITY_POLICY_VIOLATED`) means a licensed account.
* Without a project the error lists those that the account has, if Google tells.

Nothing is sent that says more of us than the protocol's own words for "unspecified".

Source: https://github.com/google-gemini/gemini-cli, packages/core/src/code_assist/setup.ts and types.ts, checked
2026-11-24.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from cliproxy.oauth.answers import (
    as_list,
    as_object,
    as_text,
    ask,
    harmless,
    is_success,
    read_json,
    read_object,
    read_refusal,
)
from cliproxy.oauth.base import Answered, Denied, Exchange, Expired, Misconfigured, Pause, Unavailable
from cliproxy.wire.http import Address, HttpRequest
from cliproxy.wire.json import encode
from cliproxy.wire.secrets import Secret

ALL = "ALL"

_FREE = "free-tier"
_STANDARD = "standard-tier"
_LEGACY = "legacy-tier"
_METADATA = {"ideType": "IDE_UNSPECIFIED", "platform": "PLATFORM_UNSPECIFIED", "pluginType": "GEMINI"}
_CHECK_MODEL = "gemini-2.5-flash"
_POLL_SECONDS = 5.0
_LONGEST_WAIT = 300.0
_MAX_LISTED = 20
_MAX_PROJECTS = 100
_MAX_LINK = 1000
_WEB = ("https://", "http://")
_PASSING = frozenset({401, 404, 405, 408, 429})
_PROJECT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9:._-]{0,98}[A-Za-z0-9])?")
_OPERATION = re.compile(r"[A-Za-z0-9_~-]+(?:[./:@][A-Za-z0-9_~-]+)*")
_LINKS = ("validation_link", "activationUrl", "appeal_url")

Json = Mapping[str, object]


class CodeAssist(Struct, frozen=True):
    """Google's service, and where it lists an account's projects, on behalf of one account."""

    address: Address
    projects: Address
    agent: bytes
    access: Secret


def wanted_projects(text: str) -> tuple[str, ...]:
    """The projects that a person asks for: none, some, or `ALL`. Raises Misconfigured for what cannot be a project."""
    names = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    if any(name.upper() == ALL for name in names):
        return (ALL,)
    for name in names:
        if name.isdigit():
            raise Misconfigured(f"`{name[:40]}` is the number of a project; give its id, which is a word.")
        if not _PROJECT.fullmatch(name):
            raise Misconfigured("That is no id of a Google Cloud project; ids look like `my-project-123`.")
    return names[:_MAX_PROJECTS]


def onboard(service: CodeAssist, wanted: tuple[str, ...]) -> Exchange[tuple[str, ...]]:
    """The projects to use, at least one: those of `wanted`, or the one that Google assigns. Raises OAuthError."""
    if wanted == (ALL,):
        return (yield from _onboard_all(service))
    chosen: list[str] = []
    for project in wanted or ("",):
        chosen += [(yield from _onboard_one(service, project))]
    return tuple(dict.fromkeys(chosen))


def is_enabled(service: CodeAssist, project: str) -> Exchange[bool]:
    """Whether a very small question is answered for that project. Raises Denied when somebody has to allow that first;
    any other failure says nothing of the project."""
    body = {
        "model": _CHECK_MODEL,
        "project": project,
        "request": {
            "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "generationConfig": {"maxOutputTokens": 1, "thinkingConfig": {"thinkingBudget": 0}},
        },
    }
    try:
        answered = yield from ask(_post(service, "generateContent", body))
    except Unavailable:
        return False
    if answered.status == 403 and (links := _links_in(answered.body)):
        raise Denied(f"The project `{project}` does not allow Code Assist yet.", told=_told(service, answered, links))
    return is_success(answered)


def _onboard_all(service: CodeAssist) -> Exchange[tuple[str, ...]]:
    """Every project that Google lets in. One that it refuses is left out, unless it refuses all."""
    listed = yield from _projects(service)
    if not listed:
        raise Misconfigured("Google lists no project for this account; name one.")
    chosen: list[str] = []
    refusal: Denied | Misconfigured | None = None
    for project in listed[:_MAX_PROJECTS]:
        try:
            chosen.append((yield from _onboard_one(service, project)))
        except (Denied, Misconfigured) as error:
            refusal = error
    if refusal is not None and not chosen:
        raise refusal
    return tuple(dict.fromkeys(chosen))


def _onboard_one(service: CodeAssist, project: str) -> Exchange[str]:
    loaded = yield from _load(service, project)
    current = as_object(loaded.get("currentTier"))
    if current is not None:
        tier_id, assigned = as_text(current.get("id")), _project_in(loaded)
    else:
        tier_id, assigned = yield from _onboarded(service, loaded, project)
    chosen = (assigned or project) if tier_id == _FREE else (project or assigned)
    if not chosen:
        raise (yield from _without_project(service, loaded))
    return chosen


def _load(service: CodeAssist, project: str) -> Exchange[Json]:
    answered = yield from ask(_post(service, "loadCodeAssist", _about(project)))
    if is_success(answered):
        return _readable(answered)
    if _is_perimeter(answered.body):
        return {"currentTier": {"id": _STANDARD}}
    raise _refused(service, answered)


def _onboarded(service: CodeAssist, loaded: Json, project: str) -> Exchange[tuple[str, str]]:
    """The tier, and the project that Google assigned, "" for none."""
    ineligible = _objects(loaded.get("ineligibleTiers"))
    for tier in ineligible:
        if as_text(tier.get("reasonCode")) == "VALIDATION_REQUIRED":
            raise Denied(
                "Google wants this account to be verified first; then log in again.", told=_reason(service, tier)
            )
    allowed = _objects(loaded.get("allowedTiers"))
    tier_id = next((as_text(tier.get("id")) for tier in allowed if tier.get("isDefault") is True), "")
    if not tier_id and ineligible:
        raise _ineligible(service, ineligible)
    known = project or _project_in(loaded)
    if not known and any(tier.get("isDefault") and tier.get("userDefinedCloudaicompanionProject") for tier in allowed):
        raise (yield from _without_project(service, loaded))
    tier_id = tier_id or _LEGACY
    body = {"tierId": tier_id, **_about("" if tier_id == _FREE else known)}
    again = _post(service, "onboardUser", body)
    answered = yield from ask(again)
    if not is_success(answered):
        raise _refused(service, answered)
    finished = yield from _finished(service, _readable(answered), again)
    return tier_id, _project_in(as_object(finished.get("response")) or {}) or known


def _finished(service: CodeAssist, operation: Json, again: HttpRequest) -> Exchange[Json]:
    """The operation when it is done. One without a name can only be asked for by asking `again`."""
    waited = 0.0
    name = as_text(operation.get("name"))
    request = _get(service.address, f"/v1internal/{name}", service) if _OPERATION.fullmatch(name) else again
    while operation.get("done") is not True:
        if waited >= _LONGEST_WAIT:
            raise Expired("Google did not finish setting up the account within five minutes; log in again later.")
        yield Pause(_POLL_SECONDS)
        waited += _POLL_SECONDS
        operation = yield from _looked_at(service, request, operation)
    error = as_object(operation.get("error"))
    if error:
        told = harmless(as_text(error.get("message")), [service.access])
        raise Denied("Google could not set up the account for Code Assist.", told=told)
    return operation


def _looked_at(service: CodeAssist, request: HttpRequest, before: Json) -> Exchange[Json]:
    """The operation as it is now, or as it was when Google cannot tell at the moment."""
    try:
        answered = yield from ask(request)
    except Unavailable:
        return before
    if is_success(answered):
        return _readable(answered)
    if answered.status == 429 or answered.status >= 500:
        return before
    raise _refused(service, answered)


def _without_project(service: CodeAssist, loaded: Json) -> Exchange[Denied | Misconfigured]:
    """The error for an account that gets no project by itself."""
    ineligible = _objects(loaded.get("ineligibleTiers"))
    if ineligible:
        return _ineligible(service, ineligible)
    listed = yield from _projects(service)
    shown = ", ".join(f"`{project}`" for project in listed[:_MAX_LISTED])
    more = ", and more" if len(listed) > _MAX_LISTED else ""
    known = f" Projects of this account: {shown}{more}." if shown else ""
    return Misconfigured(f"Google assigns no project to this account; log in again and name one (`project_id`).{known}")


def _projects(service: CodeAssist) -> Exchange[tuple[str, ...]]:
    """The ids of the account's active projects; none when Google does not tell."""
    try:
        answered = yield from ask(_get(service.projects, "/v1/projects", service))
    except Unavailable:
        return ()
    rows = _objects((read_object(answered.body) or {}).get("projects")) if is_success(answered) else []
    active = [as_text(row.get("projectId")) for row in rows if row.get("lifecycleState", "ACTIVE") == "ACTIVE"]
    return tuple(dict.fromkeys(project for project in active if _PROJECT.fullmatch(project)))


# -- requests ---------------------------------------------------------------------------------------------------------


def _about(project: str) -> dict[str, object]:
    """What both calls say of us, and of the project if there is one."""
    if not project:
        return {"metadata": _METADATA}
    return {"cloudaicompanionProject": project, "metadata": {**_METADATA, "duetProject": project}}


def _post(service: CodeAssist, method: str, body: Json) -> HttpRequest:
    target = f"{service.address.prefix}/v1internal:{method}".encode()
    head = b"content-type: application/json\r\n" + authorized_head(service.access, service.agent)
    return HttpRequest(b"POST", service.address.origin, target, head, encode(body))


def _get(address: Address, path: str, service: CodeAssist) -> HttpRequest:
    head = authorized_head(service.access, service.agent)
    return HttpRequest(b"GET", address.origin, f"{address.prefix}{path}".encode(), head)


def authorized_head(access: Secret, agent: bytes) -> bytes:
    return b"accept: application/json\r\nauthorization: Bearer %b\r\nuser-agent: %b\r\n" % (
        access.reveal().encode(),
        agent,
    )


# -- answers ----------------------------------------------------------------------------------------------------------


def _readable(answered: Answered) -> Json:
    members = read_object(answered.body)
    if members is None:
        raise Unavailable("Google's Code Assist gave an answer that cannot be read.")
    return members


def _objects(value: object) -> list[dict[str, object]]:
    return [members for item in as_list(value) if (members := as_object(item)) is not None]


def _project_in(members: Json) -> str:
    """The project in an answer: an id, or an object with one."""
    value = members.get("cloudaicompanionProject")
    project = as_text(value) or as_text((as_object(value) or {}).get("id"))
    return project if _PROJECT.fullmatch(project) else ""


def _refused(service: CodeAssist, answered: Answered) -> Denied | Unavailable:
    told = _told(service, answered, _links_in(answered.body))
    if answered.status in _PASSING or answered.status >= 500 or answered.status < 400:
        wait = read_refusal(answered).retry_after
        return Unavailable(f"Google's Code Assist answered with HTTP {answered.status}.", told=told, retry_after=wait)
    return Denied("Google refused Code Assist to this account.", told=told)


def _told(service: CodeAssist, answered: Answered, links: Iterable[str]) -> str:
    said = read_refusal(answered, [service.access]).told
    return " ".join([said, *(link for link in links if _is_link(service, link))]).strip()


def _ineligible(service: CodeAssist, tiers: list[dict[str, object]]) -> Denied:
    told = " ".join(dict.fromkeys(_reason(service, tier) for tier in tiers[:5])).strip()
    return Denied("Google does not offer Code Assist to this account.", told=told)


def _reason(service: CodeAssist, tier: Json) -> str:
    """Why a tier is closed, in the vendor's words: the code, the sentence, the link."""
    code = as_text(tier.get("reasonCode"))
    message = as_text(tier.get("validationErrorMessage")) or as_text(tier.get("reasonMessage"))
    words = harmless(": ".join(part for part in (code, message) if part), [service.access])
    link = as_text(tier.get("validationUrl"))
    return f"{words} {link}".strip() if _is_link(service, link) else words


def _links_in(body: bytes) -> list[str]:
    """Where an error sends the person to allow or verify something."""
    found: list[str] = []
    for detail in _details(body):
        metadata = as_object(detail.get("metadata")) or {}
        found += [as_text(metadata.get(name)) for name in _LINKS]
        found += [as_text(link.get("url")) for link in _objects(detail.get("links"))]
    return list(dict.fromkeys(link for link in found if link.startswith(_WEB)))[:3]


def _is_perimeter(body: bytes) -> bool:
    return any(as_text(detail.get("reason")) == "SECURITY_POLICY_VIOLATED" for detail in _details(body))


def _details(body: bytes) -> list[dict[str, object]]:
    """The details of a Google error; on some methods it comes in a list of one."""
    value = read_json(body)
    first = as_object(next(iter(as_list(value)), value)) or {}
    return _objects((as_object(first.get("error")) or {}).get("details"))


def _is_link(service: CodeAssist, text: str) -> bool:
    """Whether a person may be shown `text` as an address to open."""
    is_fit = len(text) <= _MAX_LINK and text.isprintable() and " " not in text
    return is_fit and text.startswith(_WEB) and service.access.reveal() not in text
