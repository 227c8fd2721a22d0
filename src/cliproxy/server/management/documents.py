"""The configuration as a whole: as one JSON object, and as the YAML file that it is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from cliproxy.canon.errors import InvalidRequest, SaveFailed
from cliproxy.config.issues import ConfigError
from cliproxy.config.schema import Config
from cliproxy.gateway.desk import NotYaml
from cliproxy.gateway.plane import Plane
from cliproxy.server.management import entry_lists, lists
from cliproxy.server.management.base import STALE, Answer, Asked, Operation, Row, Schema, told
from cliproxy.server.management.settings import SETTINGS
from cliproxy.wire.http import Headers

_TAG = "Configuration"

_LISTS: tuple[tuple[Callable[[Config], Mapping[str, object]], Mapping[str, Schema]], ...] = (
    (lists.API_KEYS.show, lists.members_of(lists.API_KEYS)),
    (lists.GEMINI_KEYS.show, lists.members_of(lists.GEMINI_KEYS)),
    (entry_lists.GEMINI_KEYS.show, entry_lists.members_of(entry_lists.GEMINI_KEYS)),
    (entry_lists.CLAUDE_KEYS.show, entry_lists.members_of(entry_lists.CLAUDE_KEYS)),
    (entry_lists.CODEX_KEYS.show, entry_lists.members_of(entry_lists.CODEX_KEYS)),
    (entry_lists.COMPATIBLE.show, entry_lists.members_of(entry_lists.COMPATIBLE)),
)


# -- as JSON ----------------------------------------------------------------------------------------------------------


def shown(config: Config) -> Mapping[str, object]:
    """All that the rows of settings and lists show, in one object, and nothing else: neither the management key nor
    where the program listens and keeps its files."""
    whole: dict[str, object] = {}
    sections: defaultdict[str, dict[str, object]] = defaultdict(dict)
    for setting in SETTINGS:
        home = sections[setting.key[0]] if len(setting.key) > 1 else whole
        home |= setting.show(config)
    for show, _ in _LISTS:
        whole |= show(config)
    return {**whole, **sections}


def _schema() -> Schema:
    whole: dict[str, Schema] = {}
    sections: defaultdict[str, dict[str, Schema]] = defaultdict(dict)
    for setting in SETTINGS:
        home = sections[setting.key[0]] if len(setting.key) > 1 else whole
        home |= setting.members
    for _, members in _LISTS:
        whole |= members
    return _object({**whole, **{name: _object(members) for name, members in sections.items()}})


def _object(members: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "required": [*members], "properties": members}


async def _show(plane: Plane, _: Asked) -> Answer:
    return told(shown(plane.desk.config))


# -- as YAML ----------------------------------------------------------------------------------------------------------

_YAML: Headers = ((b"content-type", b"application/yaml; charset=utf-8"),)
_YAML_SCHEMA: Schema = {"type": "string", "contentMediaType": "application/yaml"}
_MOST_BYTES = 10 * 1024 * 1024
_REPLACED = told({"ok": True, "changed": ["config"]})


async def _show_file(plane: Plane, _: Asked) -> Answer:
    try:
        return _file(await plane.desk.read_text())
    except FileNotFoundError:
        return _refusal(404, "not_found", "the configuration file is missing")
    except (OSError, ConfigError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return _refusal(500, "read_failed", f"the configuration file cannot be read: {reason}")


async def _replace_file(plane: Plane, asked: Asked) -> Answer:
    try:
        text = (await asked.body(_MOST_BYTES)).decode()
        await plane.desk.replace(text, lambda standing: asked.expect(_file(standing)))
    except UnicodeDecodeError:
        return _refusal(400, "invalid_yaml", "the document is not UTF-8")
    except NotYaml as error:
        return _refusal(400, "invalid_yaml", str(error))
    except (ConfigError, InvalidRequest) as error:
        return _refusal(422, "invalid_config", str(error))
    except SaveFailed as error:
        return _refusal(500, "write_failed", str(error))
    return _REPLACED


def _file(text: str) -> Answer:
    return Answer(200, text.encode(), _YAML)


def _refusal(status: int, error: str, message: str) -> Answer:
    return told({"error": error, "message": message}, status)


ROWS: tuple[Row, ...] = (
    Row(
        path="/config",
        tag=_TAG,
        operations={
            "GET": Operation(
                handle=_show, summary="Show all settings and lists, secrets in full", answers={200: _schema()}
            )
        },
    ),
    Row(
        path="/config.yaml",
        tag=_TAG,
        operations={
            "GET": Operation(
                handle=_show_file,
                summary="Show the configuration file as it is, with all secrets and the management key's hash",
                answers={200: _YAML_SCHEMA},
                refusals={
                    404: "`not_found`: the file is missing; `message` says so.",
                    500: "`read_failed`: `message` says why.",
                },
            ),
            "PUT": Operation(
                handle=_replace_file,
                summary="Replace the configuration file; the management key must stay what it is",
                bodies={"application/yaml": {**_YAML_SCHEMA, "description": "10 MiB at most"}},
                answers={
                    200: {
                        "type": "object",
                        "properties": {
                            "ok": {"const": True},
                            "changed": {"type": "array", "items": {"type": "string"}},
                        },
                    }
                },
                refusals={
                    400: "`invalid_yaml`: `message` says where.",
                    422: "`invalid_config`: `message` says where and why.",
                    500: "`write_failed`: `message` says why.",
                    **STALE,
                },
            ),
        },
    ),
)
