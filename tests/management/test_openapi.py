"""The description of the API against the API: every row is driven, and nothing that is sent makes it fail."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from managed import FIXTURE, Managed, Reply

from cliproxy.config.document import read
from cliproxy.server.management.reference import rendered
from cliproxy.server.management.table import ROWS

DOCS = Path(__file__).parents[2] / "docs" / "management-api.md"
OPERATIONS = [(row, method) for row in ROWS for method in row.operations]
BY_NAME = {f"{method} {row.path}": (row, method) for row, method in OPERATIONS}
SEGMENTS = {"channel": "claude", "name": "error-none.log", "id": "req_0"}


ON_THIS_MACHINE = """\
endpoints:
  gemini-cli: {callback-port: 0}
  claude: {callback-port: 0}
  codex: {callback-port: 0}
  qwen: {device-url: "http://127.0.0.1:9/device"}
"""
"""Logins that are begun reach nobody, and listen where nobody else does."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for all; what a test does to its configuration must not matter to the others."""
    managed = Managed(tmp_path_factory.mktemp("openapi"), FIXTURE + ON_THIS_MACHINE)
    yield managed
    managed.stop()


def _document(managed: Managed) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    return managed.get("/openapi.json").json  # type: ignore[return-value]


def _address(path: str) -> str:
    for name, value in SEGMENTS.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, f"no example for the segment of {path}"
    return path


def test_the_document_names_every_row_and_method(shared: Managed) -> None:
    paths = _document(shared)["paths"]

    assert {(path, method.upper()) for path, methods in paths.items() for method in methods} == {
        (row.path, method) for row, method in OPERATIONS
    }


def test_every_identifier_is_given_once(shared: Managed) -> None:
    paths = _document(shared)["paths"]
    identifiers = [operation["operationId"] for methods in paths.values() for operation in methods.values()]

    assert len(identifiers) == len(set(identifiers))  # type: ignore[arg-type]


def test_every_schema_is_one(shared: Managed) -> None:
    for methods in _document(shared)["paths"].values():
        for operation in methods.values():
            for schema in _schemas(operation):
                Draft202012Validator.check_schema(schema)


def _schemas(part: object) -> Iterator[dict[str, object]]:
    if isinstance(part, dict):
        if isinstance(part.get("schema"), dict):
            yield part["schema"]
        for member in part.values():
            yield from _schemas(member)
    elif isinstance(part, list):
        for member in part:
            yield from _schemas(member)


@pytest.mark.parametrize("name", [name for name in BY_NAME if name.startswith("GET ")])
def test_a_get_answers_what_is_described(shared: Managed, name: str) -> None:
    row, _ = BY_NAME[name]
    described = _document(shared)["paths"][row.path]["get"]["responses"]

    reply = shared.get(_address(row.path))

    assert str(reply.status) in described, reply
    _conforms(reply, described[str(reply.status)])  # type: ignore[index]
    if reply.status == 200:
        assert reply.headers["etag"]
        assert "no-store" in reply.headers["cache-control"]


def _conforms(reply: Reply, response: dict[str, object]) -> None:
    content = response["content"]
    assert isinstance(content, dict)
    media = reply.headers["content-type"].partition(";")[0]
    assert media in content
    schema = content[media]["schema"]
    if "$ref" in schema:
        schema = {"type": "object", "required": ["error"]}
    if media == "application/json":
        Draft202012Validator(schema).validate(reply.json)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_no_row_answers_without_a_key(shared: Managed, name: str) -> None:
    row, method = BY_NAME[name]

    reply = shared.ask(method, _address(row.path), headers={})

    if row.path == "/oauth-callback" and method == "GET":
        assert reply.status != 401  # where redirects arrive: the state is the secret
    else:
        assert reply.told == (401, {"error": "missing management key"})


@pytest.mark.parametrize("path", sorted({row.path for row in ROWS}))
def test_other_methods_are_refused_and_told(shared: Managed, path: str) -> None:
    row = next(row for row in ROWS if row.path == path)

    for method in {"GET", "PUT", "PATCH", "POST", "DELETE", "HEAD"} - set(row.operations):
        reply = shared.ask(method, _address(path))
        assert reply.status == 405, (method, reply)
        assert set(reply.headers["allow"].replace(" ", "").split(",")) >= set(row.operations)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(["", "k1", "ca", "http://a.example", "socks5://h:1", "round-robin", "u.json", "../u.json"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["value", "items", "index", "old", "new", "match", "name", "names", "api-key", "base-url", "models",
                 "alias", "api-keys", "disabled", "headers", "weight", "provider", "state", "code", "redirect_url",
                 "type", "proxy_url", "version", "usage", "auth_index", "count", "items", "channel"]
            )
            | st.text(max_size=8),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)  # fmt: skip
BODIES = JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=60)
QUERIES = st.dictionaries(
    st.sampled_from(
        ["index", "value", "name", "api-key", "base-url", "all", "state", "limit", "after", "cursor", "count",
         "provider", "code", "error", "auth_index", "project_id", "offset", "channel"]
    ),
    st.sampled_from(["", "0", "-1", "9" * 30, "k1", "ca", "u.json", "../x", "a\x00b", "true", "*", "\r\nx", "%", "é"]),
    max_size=3,
)  # fmt: skip
MEDIA = st.sampled_from(
    ["application/json", "text/plain", "multipart/form-data", "multipart/form-data; boundary=x", ""]
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(BY_NAME)), QUERIES, BODIES, MEDIA, st.text(max_size=6))
def test_nothing_that_is_sent_makes_it_fail(
    shared: Managed, name: str, query: dict[str, str], body: bytes, media: str, segment: str
) -> None:
    """No answer of the 5xx kind but where a vendor would have to be asked, and a file that can always be read."""
    row, method = BY_NAME[name]
    path = row.path
    if "{" in path:
        path = f"{path[: path.index('{')]}{quote(segment, safe='') or 'x'}"
    if query:
        path += "?" + "&".join(f"{key}={quote(value)}" for key, value in query.items())
    headers = {"Authorization": "Bearer mk"} | ({"Content-Type": media} if media else {})

    reply = shared.ask(method, path, headers=headers, raw=body)

    assert reply.status < 500 or reply.status in (501, 502), reply
    if reply.status >= 400 and reply.status not in (404, 405):
        assert "error" in reply.json  # type: ignore[operator]
    assert read(shared.file).config.management_key


def test_the_documentation_is_the_table() -> None:
    assert DOCS.read_text() == rendered(ROWS), "run `make docs`"
