"""Cases 17 to 51: who may manage, from where, and what strangers are told."""

import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from managed import FIXTURE, OK, Managed, Reply, own_address, refused, soon

Manage = Callable[..., Managed]

MISSING = refused(401, "missing management key")
WRONG = refused(401, "invalid management key")
FROM_ELSEWHERE = refused(403, "remote management disabled")
SHOWN = (200, {"debug": False})
BEARER = {"Authorization": "Bearer mk"}

OPEN_HOST = FIXTURE.replace("port: 0\n", "port: 0\nhost: 0.0.0.0\n")
REMOTE = OPEN_HOST.replace("allow-remote: false", "allow-remote: true")

remote_peer = pytest.mark.skipif(own_address() is None, reason="this machine has no address but loopback")


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for the tests that change nothing; other machines reach it, but may not manage it."""
    managed = Managed(tmp_path_factory.mktemp("access"), OPEN_HOST)
    yield managed
    managed.stop()


def _from_elsewhere(managed: Managed, path: str = "/debug", **options: object) -> Reply:
    return managed.get(path, host=own_address(), **options)


# -- carriers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        pytest.param({}, MISSING, id="017"),
        pytest.param({"Authorization": "Bearer wrong"}, WRONG, id="018"),
        pytest.param({"Authorization": "Bearer mk"}, SHOWN, id="019"),
        pytest.param({"Authorization": "bEaReR mk"}, SHOWN, id="020"),
        pytest.param({"Authorization": "mk"}, SHOWN, id="021"),
        pytest.param({"X-Management-Key": "mk"}, SHOWN, id="022"),
        pytest.param({"Authorization": "Basic eDp5", "X-Management-Key": "mk"}, SHOWN, id="023"),
        pytest.param({"Authorization": "Bearer"}, MISSING, id="024"),
        pytest.param({"Authorization": "Bearer  "}, MISSING, id="024-spaces"),
        pytest.param({"Authorization": "Bearer ", "X-Management-Key": "mk"}, SHOWN, id="025"),
        pytest.param({"Authorization": "Bearer k1"}, WRONG, id="027"),
        pytest.param({"Authorization": "Bearer   mk "}, SHOWN, id="spaces-around"),
        pytest.param({"Authorization": "Bearer mk", "X-Management-Key": "wrong"}, SHOWN, id="wrong-beside-right"),
        pytest.param({"Authorization": "Basic eDp5"}, WRONG, id="another-scheme"),
        pytest.param({"X-Management-Key": " "}, MISSING, id="blank"),
        pytest.param({"X-Api-Key": "mk"}, MISSING, id="another-carrier"),
        pytest.param({"Cookie": "key=mk"}, MISSING, id="cookie"),
        pytest.param({"Authorization": "Bearer " + "x" * 5000}, WRONG, id="very-long"),
        pytest.param({"Authorization": "Bearer mk\xe4"}, WRONG, id="not-ascii"),
    ],
)
def test_a_key_travels_in_a_header(still: Managed, headers: dict[str, str], told: object) -> None:
    assert still.get("/debug", headers=headers).told == told


@pytest.mark.parametrize("name", ["key", "auth_token", "management-key"])
def test_026_a_key_in_the_query_is_none(still: Managed, name: str) -> None:
    assert still.get(f"/debug?{name}=mk", headers={}).told == MISSING


@pytest.mark.parametrize("edge", ["fast", "asgi"])
def test_both_edges_keep_the_gate(manage: Manage, edge: str) -> None:
    managed = manage(edge=edge)

    assert managed.get("/debug").told == SHOWN
    assert managed.get("/debug", headers={}).told == MISSING
    assert managed.get("/debug", headers=BEARER | {"X-Forwarded-For": "203.0.113.9"}).told == FROM_ELSEWHERE


def test_what_reached_the_gate_names_the_version_and_is_not_kept(still: Managed) -> None:
    for headers in ({}, BEARER):
        reply = still.get("/debug", headers=headers)
        assert reply.headers["x-cpa-version"]
        assert reply.headers["x-cpa-support-plugin"] == "false"
        assert reply.headers["cache-control"] == "no-store"


# -- from where -------------------------------------------------------------------------------------------------------


@remote_peer
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(BEARER, id="028"),
        pytest.param({}, id="029"),
        pytest.param(BEARER | {"X-Forwarded-For": "127.0.0.1"}, id="030"),
        pytest.param(BEARER | {"X-Real-IP": "127.0.0.1"}, id="031"),
        pytest.param(BEARER | {"Forwarded": "for=127.0.0.1"}, id="forwarded"),
        pytest.param({"Authorization": "Bearer wrong"}, id="wrong"),
    ],
)
def test_other_machines_learn_nothing_while_they_may_not_manage(still: Managed, headers: dict[str, str]) -> None:
    assert _from_elsewhere(still, headers=headers).told == FROM_ELSEWHERE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("X-Forwarded-For", "203.0.113.9", id="032"),
        pytest.param("X-Forwarded-For", "127.0.0.1", id="032-claims-to-be-local"),
        pytest.param("Forwarded", "for=127.0.0.1", id="forwarded"),
        pytest.param("X-Real-IP", "127.0.0.1", id="real-ip"),
        pytest.param("X-Forwarded-Proto", "https", id="proto"),
    ],
)
def test_what_a_proxy_on_this_machine_passes_on_is_not_local(still: Managed, name: str, value: str) -> None:
    assert still.get("/debug", headers=BEARER | {name: value}).told == FROM_ELSEWHERE


@pytest.mark.parametrize("address", [pytest.param("127.0.0.2", id="033"), "127.255.0.1"])
def test_all_of_127_is_this_machine(still: Managed, address: str) -> None:
    assert still.get("/debug", host=address).told == SHOWN


@pytest.mark.parametrize(
    ("host", "address"), [pytest.param('"::1"', "::1", id="034"), pytest.param('"::"', "127.0.0.1", id="mapped")]
)
def test_034_ipv6_loopback_is_this_machine(manage: Manage, host: str, address: str) -> None:
    managed = manage(FIXTURE.replace("port: 0\n", f"port: 0\nhost: {host}\n"))

    assert managed.get("/debug", host=address).told == SHOWN


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway that other machines may manage, for tests that leave it as it was."""
    managed = Managed(tmp_path_factory.mktemp("remote"), REMOTE)
    yield managed
    managed.stop()


@remote_peer
def test_035_other_machines_need_a_key_too(open_to_all: Managed) -> None:
    assert _from_elsewhere(open_to_all, headers={}).told == MISSING
    assert _from_elsewhere(open_to_all).told == SHOWN


@remote_peer
def test_036_other_machines_may_manage_where_that_is_allowed(open_to_all: Managed) -> None:
    assert _from_elsewhere(open_to_all).told == SHOWN


@remote_peer
def test_007_the_flat_spelling_of_allow_remote_wins(manage: Manage) -> None:
    managed = manage(OPEN_HOST + "allow-remote-management: true\n")

    assert _from_elsewhere(managed).told == SHOWN


def test_a_trusted_proxy_speaks_for_its_callers(manage: Manage) -> None:
    managed = manage(FIXTURE + "trusted-proxies: [127.0.0.0/8]\n")

    def told(forwarded: str) -> object:
        return managed.get("/debug", headers=BEARER | {"X-Forwarded-For": forwarded}).told

    assert told("127.0.0.1") == SHOWN
    assert told("203.0.113.9") == FROM_ELSEWHERE
    assert told("127.0.0.1, 203.0.113.9") == FROM_ELSEWHERE
    assert told("203.0.113.9, 127.0.0.1") == FROM_ELSEWHERE
    assert told("nonsense") == FROM_ELSEWHERE
    assert managed.get("/debug", headers=BEARER | {"Forwarded": "for=203.0.113.9"}).told == FROM_ELSEWHERE
    assert managed.get("/debug").told == SHOWN


# -- edits of the file ------------------------------------------------------------------------------------------------


@remote_peer
def test_037_remote_access_follows_the_file(manage: Manage) -> None:
    managed = manage(OPEN_HOST)
    assert _from_elsewhere(managed).told == FROM_ELSEWHERE

    managed.path.write_text(managed.file.replace("allow-remote: false", "allow-remote: true"))

    assert soon(lambda: _from_elsewhere(managed).told == SHOWN, 2)


def test_038_a_plain_key_that_is_written_into_the_file_counts_at_once_and_is_hashed(managed: Managed) -> None:
    assert managed.get("/debug").told == SHOWN
    before = managed.file
    line = next(line for line in before.splitlines() if "secret-key" in line)

    managed.path.write_text(before.replace(line, '  secret-key: "mk2" # key note'))

    assert soon(lambda: managed.get("/debug", headers={"X-Management-Key": "mk2"}).told == SHOWN, 2)
    assert managed.get("/debug").told == WRONG
    now = managed.file
    assert '"mk2"' not in now
    assert [one for one in now.splitlines() if "secret-key" not in one] == [
        one for one in before.splitlines() if "secret-key" not in one
    ]


def test_039_the_api_goes_with_its_key_and_comes_back(managed: Managed) -> None:
    before = managed.file
    line = next(line for line in before.splitlines() if "secret-key" in line)

    managed.path.write_text(before.replace(line, '  secret-key: ""'))
    assert soon(lambda: managed.get("/debug").status == 404, 2)
    assert [managed.get(path, headers={}).status for path in ("/config", "/nope", "/debug")] == [404, 404, 404]
    assert managed.put("/debug", {"value": True}).status == 404

    managed.path.write_text(before)
    assert soon(lambda: managed.get("/debug").told == SHOWN, 2)


# -- guessing ---------------------------------------------------------------------------------------------------------


@remote_peer
def test_040_five_wrong_keys_lock_another_machine_out(manage: Manage) -> None:
    managed = manage(REMOTE)
    wrong = {"Authorization": "Bearer wrong"}

    assert [_from_elsewhere(managed, headers=wrong).told for _ in range(5)] == [WRONG] * 5

    reply = _from_elsewhere(managed)
    assert reply.status == 403
    assert isinstance(reply.json, dict)
    assert str(reply.json["error"]).startswith("IP banned due to too many failed attempts. Try again in ")
    assert 1700 < int(reply.headers["retry-after"]) <= 1800
    assert managed.get("/debug").told == SHOWN, "044: nobody else is locked out"


@remote_peer
@pytest.mark.parametrize("edge", ["fast", "asgi"])
def test_a_stranger_cannot_pass_for_others(manage: Manage, edge: str) -> None:
    managed = manage(REMOTE, edge=edge)

    for number in range(5):
        headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": f"203.0.113.{number}"}
        assert _from_elsewhere(managed, headers=headers).told == WRONG

    assert _from_elsewhere(managed, headers=BEARER | {"X-Forwarded-For": "203.0.113.99"}).status == 403


def test_strangers_behind_a_proxy_on_this_machine_that_is_not_trusted_are_one_caller(manage: Manage) -> None:
    managed = manage(REMOTE, edge="asgi")

    for number in range(5):
        headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": f"203.0.113.{number}"}
        assert managed.get("/debug", headers=headers).told == WRONG

    assert managed.get("/debug", headers=BEARER | {"X-Forwarded-For": "203.0.113.99"}).status == 403
    assert managed.get("/debug").told == SHOWN


@remote_peer
def test_041_a_right_key_in_between_forgives(manage: Manage) -> None:
    managed = manage(REMOTE)

    for _ in range(2):
        for _ in range(4):
            assert _from_elsewhere(managed, headers={"Authorization": "Bearer wrong"}).told == WRONG
        assert _from_elsewhere(managed).told == SHOWN


def test_043_programs_on_this_machine_are_never_locked_out(managed: Managed) -> None:
    for _ in range(10):
        assert managed.get("/debug", headers={"Authorization": "Bearer wrong"}).told == WRONG

    assert managed.get("/debug").told == SHOWN


def test_a_failure_on_this_machine_is_answered_late_and_holds_nobody_up(managed: Managed) -> None:
    assert managed.get("/debug").told == SHOWN
    waits: list[float] = []

    def fail() -> None:
        begun = time.monotonic()
        managed.get("/debug", headers={})
        waits.append(time.monotonic() - begun)

    threads = [threading.Thread(target=fail) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    assert managed.get("/debug").told == SHOWN
    assert time.monotonic() - begun < 0.2
    for thread in threads:
        thread.join()

    assert min(waits) >= 0.19
    assert max(waits) < 1.2


def test_a_key_that_was_right_costs_no_hash_again(managed: Managed) -> None:
    assert managed.get("/debug").told == SHOWN

    begun = time.monotonic()
    for _ in range(50):
        assert managed.get("/debug").told == SHOWN

    assert time.monotonic() - begun < 1.5, "fifty hashes take two seconds and more"


# -- the password of the environment ----------------------------------------------------------------------------------


@remote_peer
def test_045_a_password_in_the_environment_opens_the_api_to_all_machines(manage: Manage) -> None:
    text = "port: 0\nhost: 0.0.0.0\napi-keys: [k1]\n"
    managed = manage(text, environment={"MANAGEMENT_PASSWORD": "  envpw\n"})
    password = {"Authorization": "Bearer envpw"}

    assert _from_elsewhere(managed, headers=password).told == SHOWN
    assert managed.get("/debug", headers=password).told == SHOWN
    assert _from_elsewhere(managed, headers=BEARER).told == WRONG
    assert managed.put("/debug", {"value": True}, headers=password).told == OK
    assert managed.file == text + "debug: true\n"


@remote_peer
def test_the_key_of_the_file_is_good_beside_the_password(manage: Manage) -> None:
    managed = manage(OPEN_HOST, environment={"MANAGEMENT_PASSWORD": "envpw"})

    assert _from_elsewhere(managed).told == SHOWN
    assert _from_elsewhere(managed, headers={"X-Management-Key": "envpw"}).told == SHOWN


def test_a_blank_password_is_none(manage: Manage) -> None:
    managed = manage("port: 0\n", environment={"MANAGEMENT_PASSWORD": "  "})

    assert managed.get("/debug").status == 404


# -- pages and addresses ----------------------------------------------------------------------------------------------


def test_046_a_page_may_ask_before_it_has_a_key(still: Managed) -> None:
    asked = {"Origin": "https://panel.example", "Access-Control-Request-Method": "PATCH"}
    reply = still.ask("OPTIONS", "/debug", headers=asked)

    assert (reply.status, reply.content) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == "*"
    assert "PATCH" in reply.headers["access-control-allow-methods"].split(", ")
    allowed = reply.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "content-type", "x-management-key", "x-api-key", "x-goog-api-key", "*"} <= set(allowed)
    assert still.ask("OPTIONS", "/nope", headers={}).status == 204


@pytest.mark.parametrize("headers", [BEARER, {}, BEARER | {"Origin": "https://panel.example"}])
@pytest.mark.parametrize("path", ["/debug", "/nope", "/config"])
def test_047_every_answer_may_be_read_by_pages(still: Managed, path: str, headers: dict[str, str]) -> None:
    reply = still.get(path, headers=headers)

    assert reply.headers["access-control-allow-origin"] == "*"
    assert "X-CPA-VERSION" in reply.headers["access-control-expose-headers"]
    assert "PATCH" in reply.headers["access-control-allow-methods"]


def test_a_list_of_origins_is_followed(manage: Manage) -> None:
    managed = manage(FIXTURE + "cors-origins: [https://mine.example]\n")

    mine = managed.get("/debug", headers=BEARER | {"Origin": "https://mine.example"})
    other = managed.get("/debug", headers=BEARER | {"Origin": "https://other.example"})

    assert mine.headers["access-control-allow-origin"] == "https://mine.example"
    assert "origin" in mine.headers["vary"].lower()
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in managed.get("/debug").headers


def test_048_unknown_paths_are_told(still: Managed) -> None:
    for path in ("/nope", "", "/", "/debug/more"):
        assert still.get(path).status == 404


@pytest.mark.parametrize("method", [pytest.param("POST", id="049"), pytest.param("DELETE", id="050"), "HEAD"])
def test_other_methods_do_nothing(still: Managed, method: str) -> None:
    reply = still.ask(method, "/debug", {"value": True})

    assert reply.status in (404, 405)
    if reply.status == 405:
        assert "GET" in reply.headers["allow"]
    assert still.get("/debug").told == SHOWN


def test_051_a_slash_at_the_end_is_no_matter(still: Managed) -> None:
    reply = still.get("/debug/")

    if reply.status in (301, 307, 308):
        assert reply.headers["location"].endswith("/debug")
    else:
        assert reply.told == SHOWN


def test_no_key_is_ever_logged(managed: Managed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    managed.get("/debug", headers={"Authorization": "Bearer some-wrong-key"})
    managed.put("/debug", {"value": True})

    assert "some-wrong-key" not in caplog.text
    assert "mk" not in caplog.text.split()
