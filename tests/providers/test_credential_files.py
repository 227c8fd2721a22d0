"""Credential files of every shape: what is read, what is kept, what is refused, and what new ones are called."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.oauth.base import Misconfigured, Tokens
from cliproxy.providers.accounts import AccountFile, Trouble
from cliproxy.providers.logins import claude, codex, gemini, qwen
from cliproxy.providers.logins.files import file_name, read_time, safe_part, written_time
from cliproxy.providers.logins.registry import LOGINS, login_named, read_file
from cliproxy.wire.secrets import Secret

FIXTURES = Path(__file__).parent / "fixtures" / "auth"
MODULES = {"claude": claude, "codex": codex, "gemini": gemini, "qwen": qwen}
NOW = 1_790_000_000.0
PLAIN = {"type": "claude", "access_token": "access-1", "refresh_token": "refresh-1", "email": "ann@example.com"}


def members_of(name: str) -> dict[str, object]:
    return json.loads((FIXTURES / name).read_text())


def settings_of(**members: object) -> AccountFile:
    account = read_file("a.json", PLAIN | members)
    assert isinstance(account, AccountFile), account
    return account


# -- what the Go program writes

READ = {
    "claude.json": AccountFile(
        name="claude.json",
        kind="claude",
        email="ann@example.com",
        expires_at=1757412000.0,
        refreshed_at=1757383200.0,
        is_renewable=True,
    ),
    "claude-newer.json": AccountFile(
        name="claude-newer.json",
        kind="claude",
        email="ann@example.com",
        account_id="11111111-2222-4333-8444-555555555555",
        expires_at=1787400000.0,
        refreshed_at=1787371200.0,
        is_renewable=True,
        priority=2,
    ),
    "claude-setup-token.json": AccountFile(name="claude-setup-token.json", kind="claude"),
    "codex.json": AccountFile(
        name="codex.json",
        kind="codex",
        email="ann@example.com",
        account_id="account-1",
        expires_at=1758247200.0,
        refreshed_at=1757383200.0,
        is_renewable=True,
        plan="team",
    ),
    "codex-emptied.json": AccountFile(
        name="codex-emptied.json",
        kind="codex",
        email="ann@example.com",
        account_id="account-1",
        expires_at=1758247200.0,
        refreshed_at=1757383200.0,
        is_renewable=True,
        plan="team",
    ),
    "gemini.json": AccountFile(
        name="gemini.json",
        kind="gemini",
        email="ann@example.com",
        project_id="project-a",
        expires_at=1757386799.123456,
        is_renewable=True,
    ),
    "gemini-untyped.json": AccountFile(
        name="gemini-untyped.json",
        kind="gemini",
        email="ann@example.com",
        project_id="project-a, project-b,ALL",
        is_renewable=True,
    ),
    "gemini-flat.json": AccountFile(
        name="gemini-flat.json",
        kind="gemini",
        email="ann@example.com",
        project_id="project-a",
        expires_at=1777636800.5,
        is_renewable=True,
        note="flat",
    ),
    "gemini-both.json": AccountFile(
        name="gemini-both.json",
        kind="gemini",
        email="ann@example.com",
        project_id="project-a",
        expires_at=1777640400.0,
        is_renewable=True,
    ),
    "qwen.json": AccountFile(
        name="qwen.json",
        kind="qwen",
        email="qwen-1757412000000",
        resource_url="portal.qwen.ai",
        expires_at=1757404800.0,
        refreshed_at=1757383200.0,
        is_renewable=True,
    ),
}


def test_every_fixture_has_its_expectation():
    assert {path.name for path in FIXTURES.glob("*.json")} == set(READ)


@pytest.mark.parametrize("name", READ)
def test_a_file_of_the_go_program_is_read(name):
    assert read_file(name, members_of(name)) == READ[name]


TOKENS = {
    "claude.json": ("access-claude-1", "refresh-claude-1"),
    "claude-setup-token.json": ("access-claude-3", ""),
    "codex.json": ("access-codex-1", "refresh-codex-1"),
    "gemini.json": ("access-gemini-1", "refresh-gemini-1"),
    "gemini-untyped.json": ("access-gemini-2", "refresh-gemini-2"),
    "gemini-flat.json": ("access-gemini-3", "refresh-gemini-3"),
    "gemini-both.json": ("access-gemini-5", "refresh-gemini-4"),
    "qwen.json": ("access-qwen-1", "refresh-qwen-1"),
}


@pytest.mark.parametrize("name", TOKENS)
def test_its_tokens_are_read(name):
    tokens = MODULES[name.partition("-")[0].partition(".")[0]].read_tokens(members_of(name))

    assert (tokens.access.reveal(), tokens.refresh.reveal()) == TOKENS[name]


def test_the_client_that_a_google_token_was_given_to_is_read():
    tokens = gemini.read_tokens(members_of("gemini.json"))

    assert (tokens.client_id, tokens.client_secret) == ("client-1.example", Secret("not-a-real-secret"))


@pytest.mark.parametrize("name", READ)
def test_a_refresh_keeps_what_was_not_given_and_everything_unknown(name):
    module = MODULES[READ[name].kind]
    members = members_of(name) | {"x-unknown": {"kept": [1]}}
    fresh = Tokens(access=Secret("access-new"), lifetime=3600.0)

    written = members | dict(module.write_tokens(fresh, members, NOW))

    read = module.read_tokens(written)
    assert read.access == Secret("access-new")
    assert read.refresh == module.read_tokens(members).refresh
    assert written.keys() - members.keys() <= {"last_refresh"}
    assert {key: value for key, value in written.items() if key in ("email", "type", "x-unknown", "id_token")} == {
        key: value for key, value in members.items() if key in ("email", "type", "x-unknown", "id_token")
    }
    assert json.loads(json.dumps(written)) == written
    account = read_file(name, written)
    assert isinstance(account, AccountFile)
    assert account.expires_at == NOW + 3600


@pytest.mark.parametrize("name", READ)
def test_a_rotated_refresh_token_takes_the_place_of_the_old_one(name):
    module = MODULES[READ[name].kind]
    members = members_of(name)
    fresh = Tokens(access=Secret("access-new"), refresh=Secret("refresh-new"))

    written = members | dict(module.write_tokens(fresh, members, NOW))

    assert module.read_tokens(written).refresh == Secret("refresh-new")


def test_a_lifetime_that_was_not_told_is_written_as_a_time_that_the_go_program_can_read():
    fresh = Tokens(access=Secret("access-new"))

    assert claude.write_tokens(fresh, PLAIN, NOW)["expired"] == "0001-01-01T00:00:00Z"
    account = settings_of(**claude.write_tokens(fresh, PLAIN, NOW))
    assert (account.expires_at, account.refreshed_at) == (0.0, NOW)


def test_the_members_of_a_google_token_are_all_kept():
    members = members_of("gemini.json")

    written = gemini.write_tokens(Tokens(access=Secret("new"), lifetime=60.0), members, NOW)

    assert written == {"token": members["token"] | {"access_token": "new", "expiry": written_time(NOW + 60)}}


def test_a_flat_google_file_stays_flat():
    written = gemini.write_tokens(Tokens(access=Secret("new"), lifetime=60.0), members_of("gemini-flat.json"), NOW)

    assert written == {"access_token": "new", "expired": written_time(NOW + 60)}


def test_a_google_file_with_both_shapes_is_kept_true_in_both():
    members = members_of("gemini-both.json")

    written = gemini.write_tokens(Tokens(access=Secret("new"), lifetime=60.0), members, NOW)

    end = written_time(NOW + 60)
    assert written == {
        "token": members["token"] | {"access_token": "new", "expiry": end},
        "access_token": "new",
        "expiry": end,
    }


def test_the_extra_members_of_an_answer_are_written_when_there_are_any():
    fresh = Tokens(access=Secret("new"), extra={"resource_url": "x.example", "email": ""})

    written = qwen.write_tokens(fresh, members_of("qwen.json"), NOW)

    assert written["resource_url"] == "x.example"
    assert "email" not in written


def test_the_projects_of_a_file_are_those_between_its_commas():
    account = read_file("g.json", members_of("gemini-untyped.json"))

    assert gemini.projects_of(account) == ("project-a", "project-b")


# -- types


@pytest.mark.parametrize("kind", ["gemini", "google", "gemini-cli", " Gemini ", None, ""])
def test_google_has_several_words_for_one_kind(kind):
    account = read_file("g.json", members_of("gemini.json") | {"type": kind})

    assert account.kind == "gemini"
    assert (kind or "").strip().lower() in gemini.KINDS


def test_every_kind_of_a_file_is_one_that_its_module_claims():
    for name, module in MODULES.items():
        assert name == module.KIND
        assert name in module.KINDS


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("kimi", "ignored: unknown type `kimi`"),
        ("`\x1b[1m" + "x" * 99, "ignored: unknown type `[1m" + "x" * 37 + "`"),
        (7, "ignored: unknown type"),
        ({"a": 1}, "ignored: unknown type"),
        (True, "ignored: unknown type"),
    ],
)
def test_a_type_that_is_not_ours_is_no_mistake(kind, problem):
    assert read_file("x.json", PLAIN | {"type": kind}) == Trouble(problem, is_foreign=True)


@pytest.mark.parametrize("kind", [*MODULES, None])
def test_a_file_without_tokens_says_so(kind):
    assert read_file("x.json", {"type": kind}) == Trouble("The file holds no token; log in again.")


@pytest.mark.parametrize("token", [None, {}])
def test_a_google_file_whose_token_is_empty_says_so(token):
    assert read_file("x.json", {"type": "gemini", "token": token}) == Trouble("The file holds no token; log in again.")


@pytest.mark.parametrize(
    "members",
    [
        {"access_token": "a", "refresh_token": "r", "resource_url": "portal.qwen.ai", "expiry_date": 1},
        {"access_token": "a", "account_id": "x"},
        {"tokens": {"access_token": "a"}, "OPENAI_API_KEY": None},
        {"claudeAiOauth": {"accessToken": "a"}},
    ],
)
def test_the_untyped_file_of_another_vendor_is_not_taken_for_googles(members):
    reading = read_file("x.json", members)

    assert isinstance(reading, Trouble)
    assert "add `type`" in reading.problem


# -- members of wrong types


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("claude", {"access_token": 7}),
        ("claude", {"access_token": "a\r\nb"}),
        ("claude", {"access_token": "a", "refresh_token": []}),
        ("codex", {"access_token": "a", "id_token": {}}),
        ("gemini", {"token": "text"}),
        ("gemini", {"token": {"access_token": 7}}),
        ("gemini", {"access_token": "a", "token": [1]}),
        ("claude", PLAIN | {"disabled": "perhaps"}),
        ("claude", PLAIN | {"disabled": []}),
        ("claude", PLAIN | {"proxy_url": "socks4://h:1"}),
        ("claude", PLAIN | {"proxy_url": 7}),
        ("claude", PLAIN | {"prefix": "a/b"}),
        ("claude", PLAIN | {"prefix": {}}),
        ("claude", PLAIN | {"excluded_models": 7}),
        ("claude", PLAIN | {"excluded_models": ["a", 7]}),
        ("claude", PLAIN | {"excluded_models": {"a": 1}}),
    ],
)
def test_a_wrong_token_or_restriction_ends_the_files_use(kind, members):
    reading = read_file("x.json", members | {"type": kind})

    assert isinstance(reading, Trouble)
    assert not reading.is_foreign
    assert re.search(r"`\w+`.*\.$", reading.problem)


def test_a_proxy_is_not_repeated_in_the_problem_of_it():
    reading = read_file("x.json", PLAIN | {"proxy_url": "ftp://user:hunter2@h"})

    assert "hunter2" not in repr(reading)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("email", 7),
        ("account_id", ["a"]),
        ("account_id", "ä"),
        ("project_id", {}),
        ("resource_url", True),
        ("note", []),
        ("expired", "yesterday"),
        ("expired", {}),
        ("expired", 1e300),
        ("last_refresh", [1]),
        ("priority", "high"),
        ("priority", 1.5),
        ("weight", None.__class__.__name__),
        ("weight", True),
        ("headers", ["a: b"]),
        ("headers", {"bad name": "x"}),
        ("headers", {"x-a": "line\nbreak"}),
        ("headers", {"x-a": 7}),
        ("model_aliases", 7),
        ("model_aliases", [{"name": "a"}]),
        ("model_aliases", [7]),
        ("model_aliases", {"a": 7}),
    ],
)
def test_any_other_wrong_member_is_a_warning_and_counts_as_absent(name, value):
    account = settings_of(**{name: value})

    (warning,) = account.warnings
    assert warning.startswith(f"`{name}` ")
    assert warning.endswith(".")
    plain = settings_of()
    absent = plain if name != "email" else settings_of(email="")
    assert AccountFile(
        **{field: getattr(account, field) for field in account.__struct_fields__} | {"warnings": ()}
    ) == (absent)


# -- settings


@pytest.mark.parametrize(
    ("value", "is_disabled"),
    [(True, True), (False, False), ("true", True), ("True ", True), ("false", False), ("", False), (1, True), (0, False),
     ("yes", True), (None, False)],
)  # fmt: skip
def test_disabled_is_a_boolean_or_a_word(value, is_disabled):
    assert settings_of(disabled=value).is_disabled is is_disabled


@pytest.mark.parametrize(
    ("value", "weight", "warned"),
    [(3, 3, 0), ("3", 3, 0), (3.0, 3, 0), ("", 1, 0), (0, 0, 0), (-4, 0, 1), (10**9, 1_000_000, 1), ("1e400", 1, 1)],
)
def test_a_weight_is_a_number_or_the_text_of_one(value, weight, warned):
    account = settings_of(weight=value)

    assert (account.weight, len(account.warnings)) == (weight, warned)


@pytest.mark.parametrize(("value", "priority"), [(-3, -3), ("10", 10), (2**70, 2**63 - 1), (2**62 + 1, 2**62 + 1)])
def test_a_priority_is_a_number_or_the_text_of_one(value, priority):
    assert settings_of(priority=value).priority == priority


@pytest.mark.parametrize(
    "value", [[" GPT-5* ", "", "o3", "gpt-5*"], "gpt-5*, O3", ("gpt-5*,,o3")], ids=["list", "text", "plain"]
)
def test_excluded_models_are_lower_case_and_trimmed(value):
    assert settings_of(excluded_models=value).excluded_models == ("gpt-5*", "o3")


@pytest.mark.parametrize(
    "value",
    [
        [{"name": "upstream", "alias": "public", "fork": True}],
        [{"name": " upstream ", "alias": "public"}, {"name": "upstream", "alias": "public"}],
        {"public": "upstream"},
    ],
)
def test_aliases_are_pairs_of_upstream_and_public_name(value):
    account = settings_of(model_aliases=value)

    assert (account.aliases, account.warnings) == ((("upstream", "public"),), ())


def test_good_aliases_and_headers_stay_beside_bad_ones():
    account = settings_of(
        model_aliases=[{"name": "a", "alias": "b"}, {"alias": "c"}], headers={"x-a": "1", "x b": "2", "X-A": "3"}
    )

    assert account.aliases == (("a", "b"),)
    assert account.headers == (("X-A", Secret("3")),)
    assert len(account.warnings) == 2


def test_every_setting_is_read_also_with_hyphens():
    account = settings_of(
        **{
            "proxy-url": "socks5://u:p@h:1080",
            "prefix": "/team/",
            "note": " a\nb ",
            "excluded-models": ["m"],
            "model-aliases": [{"name": "n", "alias": "p"}],
        }
    )

    assert (account.proxy_url, account.prefix, account.note) == (Secret("socks5://u:p@h:1080"), "team", "a b")
    assert (account.excluded_models, account.aliases) == (("m",), (("n", "p"),))


def test_the_member_with_an_underscore_wins():
    assert settings_of(**{"proxy_url": "direct", "proxy-url": "http://h:1"}).proxy_url == Secret("direct")


def test_a_file_shows_no_secret():
    account = settings_of(proxy_url="http://user:hunter2@h:1", headers={"authorization": "hunter2"})

    assert not re.search("hunter2|access-1|refresh-1", repr(account))


def test_identity_is_the_name_and_nothing_in_it():
    account = read_file("claude-bob@example.com.json", PLAIN | {"email": ""})

    assert (account.name, account.email) == ("claude-bob@example.com.json", "")


# -- times


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2025-09-09T12:00:00Z", 1757419200.0),
        ("2025-09-09T12:00:00.5Z", 1757419200.5),
        ("2025-09-09T20:00:00.123456789+08:00", 1757419200.123456),
        ("2025-09-09t12:00:00z", 1757419200.0),
        ("2025-09-09T12:00:00", 1757419200.0),
        ("2025-09-09T02:00:00-10:00", 1757419200.0),
        ("0001-01-01T00:00:00Z", 0.0),
        ("0001-01-01T00:00:00+23:59", 0.0),
        ("", 0.0),
        (None, 0.0),
        (1757419200, 1757419200.0),
        (1757419200000, 1757419200.0),
        ("yesterday", None),
        ("2025-13-01T00:00:00Z", None),
        (True, None),
        ([], None),
    ],
)
def test_times_of_every_precision_are_read(value, seconds):
    assert read_time(value) == seconds


def test_a_written_time_is_utc_in_whole_seconds():
    assert written_time(1757419200.9) == "2025-09-09T12:00:00Z"


# -- names


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ann@example.com", "ann@example.com"),
        ("Ann@Example.com", "Ann@Example.com"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a\\b:c\x00d\ne\u202ef", "a_b_c_d_e_f"),
        (' "x" ', "_x_"),
        ("..", ""),
        ("///", ""),
        ("\ud800", ""),
        ("müller@example.com", "müller@example.com"),
    ],
)
def test_a_part_of_a_name_is_safe(text, part):
    assert safe_part(text) == part


def test_two_long_texts_stay_two_names():
    one, two = safe_part("ü" * 300), safe_part("ü" * 301)

    assert one != two
    assert max(len(one.encode()), len(two.encode())) <= 100


@pytest.mark.parametrize("email", ["", "  ", "//", "..", "\n"])
def test_without_an_address_the_time_is_in_the_name(email):
    assert file_name("claude", email, 1757419200.1234) == "claude-1757419200123.json"


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_name_is_one_that_the_folder_takes(email, project):
    name = file_name("gemini", email, NOW, project)

    assert re.fullmatch(r"gemini-[^/\\\x00-\x1f\"]+\.json", name)
    assert len(name.encode()) <= 255
    assert name.isprintable()


# -- anything

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["s3cr3t-token"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    *PLAIN, "id_token", "token", "account_id", "project_id", "resource_url", "expired", "expiry", "last_refresh",
    "proxy_url", "prefix", "priority", "weight", "disabled", "note", "excluded_models", "model_aliases", "headers",
    "account_uuid",
]  # fmt: skip


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([*MODULES, "google", None, "kimi"]), st.dictionaries(st.sampled_from(NAMES), values))
def test_any_object_is_an_account_or_a_sentence(kind, members):
    reading = read_file("x.json", members | {"type": kind, "access_token": "s3cr3t-token"})

    if isinstance(reading, AccountFile):
        assert reading.kind in MODULES
        shown = (reading.warnings, reading.expires_at, reading.refreshed_at, reading.weight)
        assert "s3cr3t-token" not in repr(shown)
    else:
        assert reading.problem
        assert "s3cr3t-token" not in reading.problem


@settings(deadline=None)
@given(st.sampled_from(list(MODULES)), st.dictionaries(st.sampled_from(NAMES), values))
def test_tokens_of_any_object_are_read_or_refused(kind, members):
    said = ""
    try:
        tokens = MODULES[kind].read_tokens(members)
    except Misconfigured as error:
        said = str(error)
    else:
        assert tokens.access or tokens.refresh

    assert "s3cr3t-token" not in said


# -- the list of logins


@pytest.mark.parametrize(
    ("name", "channel"),
    [("claude", "claude"), ("anthropic", "claude"), ("codex", "codex"), ("OpenAI", "codex"), ("gemini", "gemini"),
     ("gemini-cli", "gemini"), ("google", "gemini"), (" qwen ", "qwen")],
)  # fmt: skip
def test_a_login_is_found_by_each_of_its_names(name, channel):
    assert login_named(name).channel == channel


def test_a_name_that_is_nobodys_finds_nothing():
    assert login_named("kimi") is None
    assert login_named("") is None


def test_every_notice_speaks_of_keys_first_and_of_the_vendors_position():
    for login in LOGINS:
        first, *rest = re.split(r"(?<=\.) ", login.notice)
        assert "key" in (first if login.channel != "qwen" else login.notice)
        assert rest
