"""What the Gemini CLI asks Code Assist besides answers: who its user is, what that user may have, and how it went.

It is answered here, so that the CLI needs no Google login: the caller's API key has said who it is, and the accounts
behind are ours. Nothing of it is passed on to anybody, nothing is kept.

Source: https://github.com/google-gemini/gemini-cli (packages/core/src/code_assist), checked 2026-11-24.
"""

from __future__ import annotations

import re

from cliproxy.canon.errors import NotFound, Unsupported
from cliproxy.gateway.exchange import Exchange
from cliproxy.gateway.runtime import Runtime
from cliproxy.wire import json
from cliproxy.wire.http import Headers

ROOT = "/v1internal"
METHODS = ("GET", "HEAD", "POST")
"""The HTTP methods of everything here."""

_JSON: Headers = ((b"content-type", b"application/json"),)
_PROJECT = "cli-proxy-api"
"""The project that callers are told. Each account has its own, which takes its place upstream."""
_TIER: dict[str, object] = {
    "id": "standard-tier",
    "name": "CLI Proxy API",
    "description": "Served by this gateway from its own accounts",
}
_SETUP: dict[str, object] = {
    "currentTier": _TIER,
    "allowedTiers": [{**_TIER, "isDefault": True, "userDefinedCloudaicompanionProject": False}],
    "cloudaicompanionProject": _PROJECT,
    "gcpManaged": False,
}
_SETTING: dict[str, object] = {"cloudaicompanionProject": _PROJECT, "freeTierDataCollectionOptin": False}
_OPERATION = "operations/cli-proxy-api"
_NOTHING = b"{}"

_ANSWERS: dict[str, bytes] = {
    "loadCodeAssist": json.encode(_SETUP),
    "retrieveUserQuota": json.encode({"buckets": []}),
    "listExperiments": json.encode({"experimentIds": [], "flags": []}),
    "fetchAdminControls": json.encode({"adminControlsApplicable": False}),
    "getCodeAssistGlobalUserSetting": json.encode(_SETTING),
    "setCodeAssistGlobalUserSetting": json.encode(_SETTING),
    "recordCodeAssistMetrics": _NOTHING,
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]{0,99}")
_WORK = re.compile(r"(?:generate|stream|complete|count|embed|batch|predict|transform)")
"""How methods are called whose answer somebody waits for: an empty one would be a lie."""


def check(path: str) -> None:
    """Raises NotFound or Unsupported when nothing here answers at `path`."""
    method = path.removeprefix(f"{ROOT}:")
    if path.startswith(f"{ROOT}/operations/"):
        return
    if method == path or not _NAME.fullmatch(method):
        raise NotFound(f"There is nothing at `{path}`.")
    if _WORK.match(method):
        raise Unsupported(f"`{method}` is not supported by this gateway.")


async def answer(_: Runtime, exchange: Exchange, __: object) -> None:
    """Methods that nobody here knows are telemetry, or wishes to come: an empty object does no harm."""
    path = exchange.path
    method = path.removeprefix(f"{ROOT}:")
    if exchange.method == "POST":
        await exchange.read()
    if path.startswith(f"{ROOT}/operations/"):
        body = _done(path.removeprefix(f"{ROOT}/"))
    elif method == "onboardUser":
        body = _done(_OPERATION)
    else:
        body = _ANSWERS.get(method, _NOTHING)
    await exchange.reply(200, _JSON, body)


def _done(name: str) -> bytes:
    """An operation that is over: there was nothing to set up."""
    project = {"id": _PROJECT, "name": _PROJECT}
    return json.encode({"name": name, "done": True, "response": {"cloudaicompanionProject": project}})
