"""Cases 60 to 85: settings of one value."""

import logging
from collections.abc import Callable, Iterator

import pytest
from managed import OK, Managed, refused
from unchanging import INVALID, refuses

from cliproxy.config.document import read

Manage = Callable[..., Managed]


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    """One gateway for the tests that change nothing."""
    managed = Managed(tmp_path_factory.mktemp("settings"))
    yield managed
    managed.stop()


def _only_changed(managed: Managed, before: str, old: str, new: str) -> None:
    """The file is what it was but for one line."""
    assert before.count(old) == 1
    assert managed.file == before.replace(old, new)


# -- switches ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def level() -> Iterator[Callable[[], int]]:
    """The log level that is in force; what a test has changed is undone after it."""
    log = logging.getLogger("cliproxy")
    before = log.level
    yield log.getEffectiveLevel
    log.setLevel(before)


def test_060_debug_can_be_switched_on(level: Callable[[], int], managed: Managed) -> None:
    before = managed.file

    assert managed.put("/debug", {"value": True}).told == OK

    assert managed.get("/debug").json == {"debug": True}
    assert level() == logging.DEBUG
    _only_changed(managed, before, "\ndebug: false\n", "\ndebug: true\n")


def test_061_patch_sets_like_put(managed: Managed) -> None:
    managed.put("/debug", {"value": True})

    assert managed.patch("/debug", {"value": False}).told == OK

    assert managed.get("/debug").json == {"debug": False}


REFUSED_FOR_A_SWITCH = [
    pytest.param(raw, id=id_)
    for id_, raw in (
        ("062", b'{"value":"true"}'),
        ("063", b'{"value":1}'),
        ("064", b'{"value":null}'),
        ("065-no-value", b"{}"),
        ("065-empty", b""),
        ("065-bare", b"true"),
        ("065-list", b"[]"),
        ("065-text", b"not json"),
        ("066", b'{"debug":true}'),
        ("068", b'{"value":true}x'),
        ("zero", b'{"value":0}'),
        ("float", b'{"value":5.0}'),
        ("quoted", b'"x"'),
        ("deep", b'{"value":true,"x":' + b"[" * 100_000),
    )
]


@pytest.mark.parametrize("raw", REFUSED_FOR_A_SWITCH)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_switch_takes_a_boolean_and_nothing_else(still: Managed, method: str, raw: bytes) -> None:
    refuses(still, method, "/debug", raw=raw)


def test_067_other_members_are_ignored(managed: Managed) -> None:
    assert managed.put("/debug", {"value": True, "x": 1}).told == OK

    assert managed.get("/debug").json == {"debug": True}


def test_of_a_member_that_comes_twice_the_last_one_counts(managed: Managed) -> None:
    assert managed.put("/debug", raw=b'{"value":false,"value":true}').told == OK

    assert managed.get("/debug").json == {"debug": True}


def test_069_setting_the_same_value_again_writes_nothing(managed: Managed) -> None:
    managed.put("/debug", {"value": True})
    before, stat = managed.file, managed.path.stat()

    assert managed.put("/debug", {"value": True}).told == OK

    assert managed.file == before
    assert (managed.path.stat().st_mtime_ns, managed.path.stat().st_ino) == (stat.st_mtime_ns, stat.st_ino)


def test_setting_a_default_that_is_not_in_the_file_writes_nothing(managed: Managed) -> None:
    before = managed.file

    assert managed.put("/request-log", {"value": False}).told == OK

    assert managed.file == before


def test_070_the_content_type_does_not_matter(managed: Managed) -> None:
    headers = {"Authorization": "Bearer mk", "Content-Type": "text/plain"}

    assert managed.put("/debug", {"value": True}, headers=headers).told == OK


def test_082_a_switch_of_a_section_keeps_its_comment_and_its_sibling(managed: Managed) -> None:
    before = managed.file

    assert managed.put("/quota-exceeded/switch-project", {"value": False}).told == OK

    assert managed.get("/quota-exceeded/switch-project").json == {"switch-project": False}
    assert managed.get("/quota-exceeded/switch-preview-model").json == {"switch-preview-model": True}
    _only_changed(managed, before, "  switch-project: true # qp\n", "  switch-project: false # qp\n")


def test_083_the_other_switch_of_the_section(managed: Managed) -> None:
    assert managed.patch("/quota-exceeded/switch-preview-model", {"value": False}).told == OK

    assert managed.get("/quota-exceeded/switch-preview-model").json == {"switch-preview-model": False}
    assert managed.get("/quota-exceeded/switch-project").json == {"switch-project": True}


def test_084_programs_on_this_machine_may_be_let_in_at_once(managed: Managed) -> None:
    assert managed.get("/v1/models", headers={}).status == 401

    assert managed.put("/allow-localhost-unauthenticated", {"value": True}).told == OK

    assert managed.get("/v1/models", headers={}).status == 200
    assert managed.get("/allow-localhost-unauthenticated").json == {"allow-localhost-unauthenticated": True}
    assert managed.file.count("\nallow-localhost-unauthenticated: true\n") == 1


def test_085_request_logging_can_be_switched_on(managed: Managed) -> None:
    assert managed.put("/request-log", {"value": True}).told == OK

    assert managed.get("/request-log").json == {"request-log": True}
    assert read(managed.file).config.request_log


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_071_retries_can_be_set(managed: Managed) -> None:
    before = managed.file

    assert managed.put("/request-retry", {"value": 5}).told == OK

    assert managed.get("/request-retry").json == {"request-retry": 5}
    _only_changed(managed, before, "\nrequest-retry: 3\n", "\nrequest-retry: 5\n")


@pytest.mark.parametrize("value", [pytest.param(0, id="072"), pytest.param(2**63 - 1, id="largest")])
def test_a_number_may_be_anything_from_nought_to_64_bits(managed: Managed, value: int) -> None:
    assert managed.patch("/request-retry", {"value": value}).told == OK

    assert managed.get("/request-retry").json == {"request-retry": value}
    assert read(managed.file).config.request_retry == value


REFUSED_FOR_A_NUMBER = [
    pytest.param(raw, id=id_)
    for id_, raw in (
        ("073-whole-float", b'{"value":5.0}'),
        ("073-float", b'{"value":5.5}'),
        ("073-text", b'{"value":"5"}'),
        ("073-boolean", b'{"value":true}'),
        ("073-exponent", b'{"value":1e2}'),
        ("074", b'{"value":99999999999999999999}'),
        ("074-just-too-large", b'{"value":9223372036854775808}'),
        ("075", b'{"value":-1}'),
        ("null", b'{"value":null}'),
        ("missing", b"{}"),
        ("bare", b"5"),
        ("empty", b""),
        ("trailing", b'{"value":5},'),
    )
]


@pytest.mark.parametrize("raw", REFUSED_FOR_A_NUMBER)
def test_a_number_is_a_whole_one_that_is_not_negative(still: Managed, raw: bytes) -> None:
    refuses(still, "PUT", "/request-retry", raw=raw)


def test_a_negative_number_in_the_file_is_nought_and_stays_until_it_is_set(manage: Manage) -> None:
    managed = manage("remote-management: {secret-key: mk}\nport: 0\nauth-dir: AUTH_DIR\nrequest-retry: -1 # never\n")

    assert managed.get("/request-retry").json == {"request-retry": 0}
    assert managed.put("/request-retry", {"value": 2}).told == OK

    assert "\nrequest-retry: 2 # never\n" in managed.file


def test_seconds_are_told_as_they_are_in_the_file(manage: Manage) -> None:
    managed = manage("remote-management: {secret-key: mk}\nport: 0\nauth-dir: AUTH_DIR\nmax-retry-interval: 1500ms\n")
    assert managed.get("/max-retry-interval").json == {"max-retry-interval": 1.5}

    assert managed.put("/max-retry-interval", {"value": 60}).told == OK

    assert managed.get("/max-retry-interval").content == b'{"max-retry-interval":60}'
    assert "\nmax-retry-interval: 60\n" in managed.file


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/logging-to-file", True),
        ("/max-retry-credentials", 4),
        ("/max-retry-interval", 7),
        ("/routing/session-affinity", False),
        ("/routing/strategy", "fill-first"),
    ],
)
def test_later_settings_are_set_alike(managed: Managed, path: str, value: object) -> None:
    name = path.rpartition("/")[2]
    assert managed.get(path).json != {name: value}

    assert managed.put(path, {"value": value}).told == OK

    assert managed.get(path).json == {name: value}
    refuses(managed, "PUT", path, {"value": None})


# -- texts ------------------------------------------------------------------------------------------------------------


def test_076_a_proxy_is_shown_as_it_was_set(managed: Managed) -> None:
    address = "socks5://u:p@127.0.0.1:1080/"

    assert managed.put("/proxy-url", {"value": address}).told == OK

    assert managed.get("/proxy-url").json == {"proxy-url": address}
    assert read(managed.file).config.proxy_url.reveal() == address


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("http://127.0.0.1:8080", id="077"),
        pytest.param("", id="079"),
        "https://proxy.example",
        "socks5h://127.0.0.1:1080",
        "direct",
    ],
)
def test_a_proxy_may_be(managed: Managed, value: str) -> None:
    managed.put("/proxy-url", {"value": "http://127.0.0.1:1"})

    assert managed.patch("/proxy-url", {"value": f"  {value} "}).told == OK

    assert managed.get("/proxy-url").json == {"proxy-url": value}
    assert read(managed.file).config.proxy_url.reveal() == value


def test_078_a_proxy_can_be_cleared_more_than_once(managed: Managed) -> None:
    managed.put("/proxy-url", {"value": "http://127.0.0.1:8080"})

    assert managed.delete("/proxy-url").told == OK
    assert managed.get("/proxy-url").json == {"proxy-url": ""}
    assert managed.delete("/proxy-url").told == OK
    assert managed.get("/proxy-url").json == {"proxy-url": ""}
    assert '\nproxy-url: ""\n' in managed.file


@pytest.mark.parametrize(
    "value", [pytest.param(5, id="080"), pytest.param(True, id="080-boolean"), pytest.param(None, id="080-null")]
)
def test_a_proxy_is_a_text(still: Managed, value: object) -> None:
    refuses(still, "PUT", "/proxy-url", {"value": value})


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("ftp://x", id="081"),
        pytest.param("127.0.0.1:8080", id="081-no-scheme"),
        pytest.param("http://", id="081-no-host"),
        pytest.param("http://h:port", id="081-port"),
        pytest.param("http://a b", id="081-space"),
        pytest.param("http://a\nb", id="081-line"),
        pytest.param("http://h/path", id="081-path"),
    ],
)
def test_what_is_no_proxy_is_refused(still: Managed, value: str) -> None:
    refuses(still, "PUT", "/proxy-url", {"value": value}, refused(400, "invalid proxy url"))


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("rr", "round-robin"),
        ("", "round-robin"),
        ("ff", "fill-first"),
        ("wrr", "weighted"),
        ("weighted-round-robin", "weighted"),
        (" Fill-First ", "fill-first"),
    ],
)
def test_a_strategy_has_short_names(managed: Managed, value: str, meant: str) -> None:
    managed.put("/routing/strategy", {"value": "weighted" if meant != "weighted" else "fill-first"})

    assert managed.patch("/routing/strategy", {"value": value}).told == OK

    assert managed.get("/routing/strategy").json == {"strategy": meant}
    assert read(managed.file).config.routing.strategy == meant


def test_a_strategy_that_is_none_is_refused(still: Managed) -> None:
    refuses(still, "PUT", "/routing/strategy", {"value": "random"}, refused(400, "invalid strategy"))
    refuses(still, "PUT", "/routing/strategy", {"value": 1}, INVALID)


# -- methods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path"), [("POST", "/debug"), ("DELETE", "/debug"), ("DELETE", "/request-retry")])
def test_what_a_setting_cannot_do_changes_nothing(still: Managed, method: str, path: str) -> None:
    before = still.file

    assert still.ask(method, path, {"value": True}).status == 405

    assert still.file == before


def test_a_body_of_more_than_a_mebibyte_is_refused(still: Managed) -> None:
    body = b'{"value":true,"x":"' + b"x" * 1024 * 1024 + b'"}'

    refuses(still, "PUT", "/debug", told=refused(413, "request body too large"), raw=body)
