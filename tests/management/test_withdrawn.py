"""Addresses of other versions: each says why it has nothing to change, and none is a mere 404."""

from collections.abc import Iterator

import pytest
from managed import OK, Managed, refused

from cliproxy.server.management.withdrawn import EMPTY, FIXED, GONE, Empty, Fixed, Gone

LISTED = "GET PUT PATCH DELETE"
SCALAR = "GET PUT PATCH"

DOCUMENTED = {
    # tier 1
    "/config": "GET",
    "/config.yaml": "GET PUT",
    "/api-keys": LISTED,
    "/claude-api-key": LISTED,
    "/codex-api-key": LISTED,
    "/openai-compatibility": LISTED,
    "/gemini-api-key": LISTED,
    "/generative-language-api-key": LISTED,
    "/auth-files": "GET POST DELETE",
    "/auth-files/download": "GET",
    "/anthropic-auth-url": "GET",
    "/codex-auth-url": "GET",
    "/gemini-cli-auth-url": "GET",
    "/qwen-auth-url": "GET",
    "/get-auth-status": "GET",
    "/oauth-callback": "GET POST",
    # tier 2
    "/auth-files/status": "PATCH",
    "/auth-files/fields": "PATCH",
    "/auth-files/models": "GET",
    "/model-definitions/claude": "GET",
    "/oauth-excluded-models": LISTED,
    "/oauth-model-alias": LISTED,
    "/oauth-model-mappings": LISTED,
    "/logs": "GET DELETE",
    "/request-error-logs": "GET",
    "/request-error-logs/error-x.log": "GET",
    "/request-log-by-id/req_0": "GET",
    "/latest-version": "GET",
    "/api-key-usage": "GET",
    "/api-call": "POST",
    "/vertex/import": "POST",
    "/vertex-api-key": LISTED,
    "/xai-api-key": LISTED,
    "/interactions-api-key": LISTED,
    "/antigravity-auth-url": "GET",
    "/kimi-auth-url": "GET",
    "/xai-auth-url": "GET",
    "/oauth-session": "DELETE",
    "/plugins": "GET",
    "/plugins/x": "GET",
    "/plugin-store": "GET",
    "/plugin-store/x": "GET",
    # tier 3
    "/logging-to-file": SCALAR,
    "/logs-max-total-size-mb": SCALAR,
    "/error-logs-max-files": SCALAR,
    "/usage-statistics-enabled": SCALAR,
    "/ws-auth": SCALAR,
    "/max-retry-interval": SCALAR,
    "/max-retry-credentials": SCALAR,
    "/force-model-prefix": SCALAR,
    "/routing/strategy": SCALAR,
    "/oauth-request-scoped-errors": LISTED,
    "/reset-quota": "POST",
    "/usage-queue": "GET",
    # gone from newer versions
    "/usage": "GET",
    "/usage/export": "GET",
    "/usage/import": "POST",
    "/ampcode": "GET",
    "/ampcode/upstream-url": LISTED,
    "/ampcode/upstream-api-key": LISTED,
    "/ampcode/restrict-management-to-localhost": SCALAR,
    "/ampcode/force-model-mappings": SCALAR,
    "/ampcode/model-mappings": LISTED,
    "/ampcode/upstream-api-keys": LISTED,
    "/iflow-auth-url": "GET POST",
    "/gemini-web-token": "POST",
    "/allow-localhost-unauthenticated": SCALAR,
    "/force-gpt-5-codex": SCALAR,
    "/prioritize-model-mappings": SCALAR,
    "/force-model-mappings": SCALAR,
    "/keep-alive": "GET",
}
NO_ROW = "there is nothing at this address of the management API"

each_fixed = pytest.mark.parametrize("fixed", FIXED, ids=lambda one: one.name)
each_empty = pytest.mark.parametrize("empty", EMPTY, ids=lambda one: one.path)
each_gone = pytest.mark.parametrize("gone", GONE, ids=lambda one: one.path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    managed = Managed(tmp_path_factory.mktemp("withdrawn"))
    yield managed
    managed.stop()


@pytest.mark.parametrize(("path", "methods"), DOCUMENTED.items(), ids=[*DOCUMENTED])
def test_every_documented_path_has_a_row_with_its_methods(shared: Managed, path: str, methods: str) -> None:
    for method in methods.split():
        reply = shared.ask(method, path)

        assert reply.status != 405, reply
        if reply.status == 404:
            assert reply.json["error"] != NO_ROW, reply  # type: ignore[index]


def test_an_unknown_path_has_no_row(shared: Managed) -> None:
    assert shared.get("/nobody-knows-this").told == refused(404, NO_ROW)


@each_fixed
def test_a_fixed_setting_is_shown_and_takes_its_own_value(shared: Managed, fixed: Fixed) -> None:
    assert shared.get(f"/{fixed.name}").told == (200, {fixed.name: fixed.value})
    assert shared.put(f"/{fixed.name}", {"value": fixed.value}).told == OK
    assert shared.patch(f"/{fixed.name}", {"value": fixed.value}).told == OK


@each_fixed
def test_a_fixed_setting_refuses_another_value_and_says_why(shared: Managed, fixed: Fixed) -> None:
    other = not fixed.value if isinstance(fixed.value, bool) else fixed.value + 1

    told = shared.put(f"/{fixed.name}", {"value": other}).told

    assert told == refused(400, f"`{fixed.name}` cannot be changed: {fixed.why}")
    assert shared.get(f"/{fixed.name}").json == {fixed.name: fixed.value}


@each_fixed
def test_a_fixed_setting_tells_a_switch_from_a_number(shared: Managed, fixed: Fixed) -> None:
    other = int(fixed.value) if isinstance(fixed.value, bool) else True

    for value in (other, "true", None, 1.5):
        assert shared.put(f"/{fixed.name}", {"value": value}).told == refused(400, "invalid body")


@each_empty
def test_an_empty_list_is_shown_and_takes_nothing(shared: Managed, empty: Empty) -> None:
    assert shared.get(empty.path).told == (200, empty.shown)
    for method in empty.writes:
        told = shared.ask(method, empty.path, ["x"])
        assert told.told == refused(410, f"`{empty.path}` is not offered: {empty.why}")


@each_gone
def test_what_is_gone_says_why(shared: Managed, gone: Gone) -> None:
    for method in gone.methods:
        told = shared.ask(method, gone.path.replace("{id}", "x"), {"value": True})
        assert told.told == refused(410, f"`{gone.path}` is not offered: {gone.why}")


def test_nothing_of_this_touches_the_file(shared: Managed) -> None:
    before = shared.file

    for fixed in FIXED:
        shared.put(f"/{fixed.name}", {"value": fixed.value})
    for path, methods in [(one.path, one.writes) for one in EMPTY] + [(one.path, one.methods) for one in GONE]:
        for method in methods:
            shared.ask(method, path, {"value": True})

    assert shared.file == before


def test_there_is_no_page_to_manage_with(shared: Managed) -> None:
    told = shared.get("root:/management.html", headers={})

    assert told.status == 404
    assert "/management.html" in told.json["error"]["message"]  # type: ignore[index]
