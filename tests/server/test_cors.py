"""Web pages from elsewhere: they may call with a key, and read every answer; never without one."""

import pytest
from doors import CONFIG, DOORS, STREAMS

pytestmark = pytest.mark.flow

PAGE = "https://page.example"
ORIGIN = f"origin: {PAGE}"
ALLOWED = "access-control-allow-origin"


def configured(vendors, more: str) -> str:
    return CONFIG.format(vendors=vendors.url) + more


@pytest.mark.parametrize(
    "target", [*(door.target for door in DOORS), "/v1/models", "/nothing", "/v0/management/config"]
)
def test_preflights_allow_every_verb_and_header(caller, target):
    wanted = "access-control-request-headers: authorization,x-stainless-os,x-anything"
    answer = caller.ask("OPTIONS", target, ORIGIN, "access-control-request-method: PATCH", wanted, key=False)

    assert answer.status == 204
    assert answer.header(ALLOWED) == "*"
    verbs = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
    assert verbs <= set(answer.header("access-control-allow-methods").split(", "))
    assert answer.header("access-control-allow-headers") == "authorization,x-stainless-os,x-anything"
    assert answer.header("content-length") == ""


def test_answers_streams_and_errors_may_be_read(caller):
    for door in (*DOORS, *STREAMS):
        for body, key, status in ((door.body, True, 200), (b"{", True, 400), (door.body, False, 401)):
            answer = caller.ask("POST", door.target, ORIGIN, body=body, key=key)

            assert answer.status == status
            assert answer.header(ALLOWED) == "*"
            assert answer.header("access-control-expose-headers") == "*"
    assert caller.ask("GET", "/nothing", ORIGIN).header(ALLOWED) == "*"


def test_refusals_before_the_request_is_whole_may_be_read(shared, dial):
    large = dial(shared).ask("POST", DOORS[0].target, ORIGIN, "x-bomb: " + "b" * 100_000, body={})

    assert large.header(ALLOWED) == "*"


def test_callers_who_are_no_page_get_no_such_headers(caller):
    for door in (*DOORS, *STREAMS):
        assert caller.ask("POST", door.target, body=door.body).header(ALLOWED) == ""


def test_only_listed_pages_may_read_where_there_is_a_list(start, edge, shared_vendors, dial):
    caller = dial(start(configured(shared_vendors, f"cors-origins: ['{PAGE}', 'http://localhost:5173']\n"), edge=edge))

    for method, door in (("POST", DOORS[0]), ("POST", STREAMS[2]), ("OPTIONS", DOORS[1])):
        body = door.body if method == "POST" else None
        listed = caller.ask(method, door.target, ORIGIN, body=body)
        foreign = caller.ask(method, door.target, "origin: https://evil.example", body=body)

        assert listed.header(ALLOWED) == PAGE
        assert "origin" in listed.header("vary").lower()
        assert foreign.header(ALLOWED) == ""
        assert foreign.status == listed.status


def test_what_is_answered_without_a_key_may_not_be_read_by_pages(start, edge, shared_vendors, dial):
    caller = dial(start(configured(shared_vendors, "allow-localhost-unauthenticated: true\n"), edge=edge))
    local = "origin: http://localhost:5173"

    for door in (*DOORS, *STREAMS):
        keyless = caller.ask("POST", door.target, local, body=door.body, key=False)
        keyed = caller.ask("POST", door.target, local, body=door.body)
        wrong = caller.ask("POST", door.target, local, body=b"{", key=False)

        assert (keyless.status, keyless.header(ALLOWED)) == (200, "")
        assert (wrong.status, wrong.header(ALLOWED)) == (400, "")
        assert (keyed.status, keyed.header(ALLOWED)) == (200, "*")
