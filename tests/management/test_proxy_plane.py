"""Cases 208 to 213: the keys of clients, as the Management API and the file change them."""

import logging
from collections.abc import Callable, Iterator

import pytest
from managed import FIXTURE, OK, Managed, Reply, own_address

Manage = Callable[..., Managed]

remote_peer = pytest.mark.skipif(own_address() is None, reason="this machine has no address but loopback")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for the tests that change nothing."""
    managed = Managed(tmp_path_factory.mktemp("proxy"))
    yield managed
    managed.stop()


def _message(reply: Reply) -> str:
    """What the error body of OpenAI's dialect says."""
    assert isinstance(reply.json, dict)
    error = reply.json["error"]
    assert isinstance(error, dict)
    return str(error["message"])


def _models(managed: Managed, key: str = "", **headers: str) -> int:
    return managed.get("/v1/models", headers={"Authorization": f"Bearer {key}"} if key else headers).status


@pytest.mark.parametrize(
    ("headers", "query", "told"),
    [
        pytest.param({}, "", "Missing API key", id="208"),
        pytest.param({"Authorization": "Bearer nope"}, "", "Invalid API key", id="208-wrong"),
        pytest.param({"Authorization": "Bearer k1"}, "", None, id="208-right"),
        pytest.param({"Authorization": "k1"}, "", None, id="209"),
        pytest.param({"X-Api-Key": "k1"}, "", None, id="209-x-api-key"),
        pytest.param({"X-Goog-Api-Key": "k1"}, "", None, id="209-x-goog-api-key"),
        pytest.param({}, "?key=k1", None, id="209-query"),
        pytest.param({}, "?KEY=k1", "Missing API key", id="209-capitals"),
        pytest.param({"Authorization": "Token k1"}, "", "Invalid API key", id="209-scheme"),
        pytest.param({"Authorization": "Bearer nope", "X-Api-Key": "k1"}, "", None, id="210"),
        pytest.param({"Authorization": "Bearer mk"}, "", "Invalid API key", id="210-management-key"),
    ],
)
def test_a_client_shows_a_key(still: Managed, headers: dict[str, str], query: str, told: str | None) -> None:
    reply = still.get(f"/v1/models{query}", headers=headers)

    if told is None:
        assert reply.status == 200
    else:
        assert (reply.status, _message(reply)) == (401, told)


def test_211_only_the_newest_keys_are_good_at_once(managed: Managed) -> None:
    old = "k1"
    for new in ("n1", "n2", "n3"):
        assert managed.put("/api-keys", [new]).told == OK
        assert (_models(managed, new), _models(managed, old)) == (200, 401)
        old = new


def test_212_without_keys_programs_on_this_machine_may_call_and_the_log_says_so(
    managed: Managed, caplog: pytest.LogCaptureFixture
) -> None:
    assert _models(managed) == 401

    assert managed.put("/api-keys", []).told == OK

    assert _models(managed) == 200
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "`api-keys`" in warning


LOCALHOST = FIXTURE + "allow-localhost-unauthenticated: true\n"


@pytest.mark.parametrize(
    ("host", "address"), [pytest.param("127.0.0.1", "127.0.0.1", id="ipv4"), pytest.param('"::1"', "::1", id="ipv6")]
)
def test_213_programs_on_this_machine_may_call_without_a_key(manage: Manage, host: str, address: str) -> None:
    managed = manage(LOCALHOST.replace("port: 0\n", f"port: 0\nhost: {host}\n"), host=address)

    assert _models(managed) == 200
    assert _models(managed, **{"X-Forwarded-For": "127.0.0.1"}) == 401
    assert managed.get("/debug", headers={}).status == 401


@remote_peer
def test_213_other_machines_need_a_key(manage: Manage) -> None:
    managed = manage(LOCALHOST.replace("port: 0\n", "port: 0\nhost: 0.0.0.0\n"))

    assert managed.get("/v1/models", headers={}, host=own_address()).status == 401
    assert managed.get("/v1/models", headers={"X-Api-Key": "k1"}, host=own_address()).status == 200


def test_213_a_proxy_on_this_machine_needs_a_key_also_when_it_is_trusted(manage: Manage) -> None:
    managed = manage(LOCALHOST + "trusted-proxies: [127.0.0.1]\n")

    assert _models(managed, **{"X-Forwarded-For": "127.0.0.1"}) == 401
    assert _models(managed) == 200
