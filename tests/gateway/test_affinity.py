"""Which conversation a request belongs to: what clients send, turn by turn."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.dialects import anthropic, gemini, gemini_cli, openai_chat, openai_completions, openai_responses
from cliproxy.dialects.base import Dialect
from cliproxy.gateway.affinity import Bindings, may_follow, session_of
from cliproxy.routing.accounts import Account, Served
from cliproxy.routing.catalog import Catalog
from cliproxy.routing.pool import Pool
from cliproxy.routing.session import Session

GOLDEN = Path(__file__).parents[1] / "golden"
ANTHROPIC, CHAT, RESPONSES = anthropic.DIALECT, openai_chat.DIALECT, openai_responses.DIALECT
GEMINI, GEMINI_CLI = gemini.DIALECT, gemini_cli.DIALECT
DIALECTS: list[Dialect] = [
    ANTHROPIC,
    CHAT,
    openai_completions.DIALECT,
    RESPONSES,
    GEMINI,
    gemini.ARRAY,
    GEMINI_CLI,
    gemini_cli.ARRAY,
]
HEADERS = (
    b"x-claude-code-session-id",
    b"x-session-id",
    b"session-id",
    b"session_id",
    b"x-session-affinity",
    b"conversation_id",
    b"thread-id",
)
MARK = {"cache_control": {"type": "ephemeral"}}
Body = dict[str, Any]
Turns = list[tuple[str, str]]
TALK: Turns = [
    ("user", "Read a.txt."),
    ("model", "It says hello."),
    ("user", "Again."),
    ("model", "Hello."),
    ("user", "!"),
]


def found(dialect: Dialect, body: Body, *headers: tuple[bytes, bytes]) -> Session | None:
    """What may not be followed by the quick look is not to be followed by the thorough one."""
    lines, data = ((b"user-agent", b"test"), *headers), json.dumps(body).encode()
    known = session_of(dialect, lines, data)
    assert may_follow(dialect, lines, data) or known is None or known.is_new
    return known


def session(dialect: Dialect, body: Body, *headers: tuple[bytes, bytes]) -> Session:
    known = found(dialect, body, *headers)
    assert known is not None
    return known


def key(dialect: Dialect, body: Body, *headers: tuple[bytes, bytes]) -> bytes:
    return session(dialect, body, *headers).key


def golden(path: str, part: str) -> Body:
    return json.loads((GOLDEN / path).read_text())[part]


# ---- one conversation in each dialect: the same instructions, the same turns


def messages(turns: Turns) -> list[Body]:
    return [{"role": "assistant" if role == "model" else role, "content": text} for role, text in turns]


def in_anthropic(turns: Turns, instructions: str = "Be terse.") -> Body:
    return {"model": "m", "system": instructions, "messages": messages(turns)}


def in_chat(turns: Turns, instructions: str = "Be terse.") -> Body:
    return {"model": "m", "messages": [{"role": "system", "content": instructions}, *messages(turns)]}


def in_responses(turns: Turns, instructions: str = "Be terse.") -> Body:
    return {"model": "m", "instructions": instructions, "input": messages(turns)}


def in_gemini(turns: Turns, instructions: str = "Be terse.") -> Body:
    contents = [{"role": role, "parts": [{"text": text}]} for role, text in turns]
    return {"contents": contents, "systemInstruction": {"parts": [{"text": instructions}]}}


def in_gemini_cli(turns: Turns, instructions: str = "Be terse.") -> Body:
    return {"model": "m", "project": "p", "request": in_gemini(turns, instructions)}


SPOKEN = [
    pytest.param(ANTHROPIC, in_anthropic, id="anthropic"),
    pytest.param(CHAT, in_chat, id="chat"),
    pytest.param(RESPONSES, in_responses, id="responses"),
    pytest.param(GEMINI, in_gemini, id="gemini"),
    pytest.param(GEMINI_CLI, in_gemini_cli, id="gemini-cli"),
]


@pytest.mark.parametrize(("dialect", "spoken"), SPOKEN)
def test_all_turns_of_a_conversation_have_one_key_and_only_the_first_is_new(dialect, spoken):
    sessions = [session(dialect, spoken(TALK[:count])) for count in (1, 3, 5)]

    assert len({one.key for one in sessions}) == 1
    assert [one.is_new for one in sessions] == [True, False, False]


@pytest.mark.parametrize(("dialect", "spoken"), SPOKEN)
def test_another_first_turn_or_other_instructions_are_another_conversation(dialect, spoken):
    other = [("user", "Read b.txt."), *TALK[1:]]

    keys = {key(dialect, body) for body in (spoken(TALK), spoken(other), spoken(TALK, "Be kind."))}

    assert len(keys) == 3


@pytest.mark.parametrize(("dialect", "spoken"), SPOKEN)
def test_turns_before_the_first_answer_all_count(dialect, spoken):
    """Codex and others begin with a turn about the machine, which is alike in all conversations."""
    machine = ("user", "The folder is /src.")

    first, second, later = (
        session(dialect, spoken([machine, *turns])) for turns in (TALK[:1], [("user", "Else.")], TALK)
    )

    assert first.key == later.key != second.key
    assert (first.is_new, second.is_new, later.is_new) == (True, True, False)


@pytest.mark.parametrize(("dialect", "spoken"), SPOKEN)
def test_a_greeting_by_the_model_is_no_answer(dialect, spoken):
    greeting = ("model", "How can I help?")

    first, second, later = (
        session(dialect, spoken([greeting, *turns])) for turns in (TALK[:1], [("user", "Else.")], TALK)
    )

    assert first.key == later.key != second.key
    assert (first.is_new, later.is_new) == (True, False)


@pytest.mark.parametrize(("dialect", "spoken"), SPOKEN)
def test_a_request_without_a_turn_of_a_user_has_no_conversation(dialect, spoken):
    assert found(dialect, spoken([])) is None


@pytest.mark.parametrize("size", [3000, 300_000])
def test_long_openings_differ_by_their_beginning_their_end_and_their_length(size):
    text = "x" * size

    keys = {key(CHAT, in_chat([("user", one)])) for one in (text, "y" + text[1:], text[1:] + "y", text + "x")}

    assert len(keys) == 4


def test_what_a_user_said_counts_behind_any_number_of_instructions():
    system = [{"type": "text", "text": f"Rule {number}."} for number in range(40)]

    one, other = ({"system": system, "messages": messages([("user", text)])} for text in ("A", "B"))

    assert key(ANTHROPIC, one) != key(ANTHROPIC, other)


def test_a_job_of_many_user_turns_is_known_by_its_first_ones():
    turns = [("user", f"Fact {number}.") for number in range(500)]

    first, later = session(CHAT, in_chat(turns)), session(CHAT, in_chat([*turns, ("model", "Noted."), ("user", "So?")]))

    assert first.key == later.key
    assert (first.is_new, later.is_new) == (True, False)


# ---- what changes between two turns of the same conversation


@pytest.mark.parametrize(
    ("dialect", "field", "mark"),
    [
        pytest.param(ANTHROPIC, "messages", MARK, id="anthropic"),
        pytest.param(CHAT, "messages", MARK, id="chat"),
        pytest.param(CHAT, "messages", {"prompt_cache_breakpoint": {"mode": "explicit"}}, id="chat-breakpoint"),
        pytest.param(RESPONSES, "input", {"prompt_cache_breakpoint": {"mode": "explicit"}}, id="responses"),
    ],
)
@pytest.mark.parametrize(
    "part", [{"type": "text", "text": "hi"}, {"type": "image", "source": {"type": "url", "url": "https://a.test/b"}}]
)
def test_cache_marks_may_move(dialect, field, mark, part):
    marked = {field: [{"role": "user", "content": [part | mark]}]}
    moved = {
        field: [
            {"role": "user", "content": [part]},
            {"role": "assistant", "content": "yes"},
            {"role": "user", "content": [{"type": "text", "text": "more"} | mark]},
        ]
    }

    assert key(dialect, marked) == key(dialect, moved)


def test_a_text_that_was_in_a_list_for_its_mark_may_come_back_as_plain_text():
    marked = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi", **MARK}]}]}
    plain = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]}

    assert key(ANTHROPIC, marked) == key(ANTHROPIC, plain)


def test_pictures_tell_conversations_apart():
    def shown(url: str) -> Body:
        picture = {"type": "image_url", "image_url": {"url": url}}
        return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]}]}

    assert key(CHAT, shown("https://a.test/1")) != key(CHAT, shown("https://a.test/2"))


def test_instructions_in_the_middle_are_no_answer():
    """Claude Code puts messages of the system among the others."""
    turns = [("user", "hi"), ("system", "Be brief.")]

    first, later = (session(ANTHROPIC, in_anthropic(some)) for some in (turns, [*turns, ("model", "yes")]))

    assert first.key == later.key
    assert (first.is_new, later.is_new) == (True, False)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "reasoning", "summary": [], "encrypted_content": "x", "content": None},
        {"type": "function_call", "call_id": "c", "name": "ls", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c", "name": "ls", "input": ""},
        {"type": "reasoning", "summary": [], "role": None},
    ],
)
def test_items_without_a_role_are_answers_in_responses(item):
    assert not session(RESPONSES, {"input": [{"role": "user", "content": "hi"}, item]}).is_new


def test_a_text_as_input_is_the_first_turn_of_a_user():
    text, items = {"input": "hi"}, {"input": messages([("user", "hi"), ("model", "yes")])}

    assert session(RESPONSES, text) == Session(key(RESPONSES, items), is_new=True)


@pytest.mark.parametrize(
    "contents",
    [
        "hi",
        ["hi"],
        {"parts": [{"text": "hi"}]},
        [{"parts": [{"text": "hi"}]}],
        [{"role": "user", "parts": [{"text": "hi"}]}, {"role": "model", "parts": [{"text": "yes"}]}],
    ],
)
@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction"])
@pytest.mark.parametrize("instructions", ["Be terse.", {"parts": [{"text": "Be terse."}]}])
def test_gemini_contents_are_the_same_in_every_shape(contents, name, instructions):
    assert key(GEMINI, {"contents": contents, name: instructions}) == key(GEMINI, in_gemini([("user", "hi")]))


# ---- headers


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_header_names_the_conversation_whatever_the_body_holds(dialect, name):
    one, same, other = (
        session_of(dialect, ((name, value),), body)
        for value, body in ((b"s1", b"{}"), (b"s1", b"no JSON"), (b"s2", b"{}"))
    )

    assert one is not None
    assert other is not None
    assert one == same != other
    assert (len(one.key), one.is_new) == (16, False)


def test_headers_count_in_their_order_not_in_that_of_the_wire():
    named = [(name, b"of " + name) for name in HEADERS]

    for place, (name, value) in enumerate(named):
        assert key(CHAT, {}, *reversed(named[place:])) == key(CHAT, {}, (name, value))


def test_equal_values_of_different_signs_are_different_conversations():
    keys = {key(CHAT, {}, (name, b"v")) for name in HEADERS}
    keys |= {key(CHAT, {"prompt_cache_key": "v"}), key(RESPONSES, {"conversation": "v"})}
    keys |= {key(ANTHROPIC, {"metadata": {"user_id": "v"}}), key(GEMINI_CLI, {"request": {"session_id": "v"}})}
    keys |= {key(CHAT, {"messages": messages([("user", "v")])})}

    assert len(keys) == len(HEADERS) + 5


def test_an_empty_header_is_none():
    assert key(CHAT, in_chat(TALK), (b"x-session-id", b"")) == key(CHAT, in_chat(TALK))


@pytest.mark.parametrize("name", [b"x-client-request-id", b"x-request-id", b"x-codex-window-id", b"authorization"])
def test_headers_that_name_something_else_do_not_count(name):
    assert key(CHAT, in_chat(TALK), (name, b"1")) == key(CHAT, in_chat(TALK))


# ---- names in the body


@pytest.mark.parametrize(
    ("dialect", "spoken", "names"),
    [
        pytest.param(ANTHROPIC, in_anthropic, lambda name: {"metadata": {"user_id": name}}, id="user_id"),
        pytest.param(CHAT, in_chat, lambda name: {"prompt_cache_key": name}, id="chat-cache-key"),
        pytest.param(RESPONSES, in_responses, lambda name: {"prompt_cache_key": name}, id="cache-key"),
        pytest.param(RESPONSES, in_responses, lambda name: {"conversation": name}, id="conversation"),
        pytest.param(RESPONSES, in_responses, lambda name: {"conversation": {"id": name}}, id="conversation-object"),
        pytest.param(GEMINI_CLI, lambda turns: in_gemini(turns), lambda name: {"session_id": name}, id="session_id"),
        pytest.param(GEMINI_CLI, lambda turns: in_gemini(turns), lambda name: {"sessionId": name}, id="sessionId"),
    ],
)
@pytest.mark.parametrize("name", ["s1", "ü" * 700])
def test_a_name_in_the_body_counts_more_than_what_was_said(dialect, spoken, names, name):
    def named(turns: Turns, value: str) -> Session:
        body = spoken(turns) | names(value)
        return session(dialect, {"request": body} if dialect is GEMINI_CLI else body)

    assert named(TALK[:1], name) == named([("user", "Else.")], name)
    assert not named(TALK[:1], name).is_new
    assert named(TALK, name).key != named(TALK, f"{name}2").key
    assert named(TALK[:1], "").is_new


def test_a_conversation_is_a_better_name_than_a_cache_key():
    both = {"conversation": {"id": "c"}, "prompt_cache_key": "k"}

    assert key(RESPONSES, both) == key(RESPONSES, {"conversation": "c"})


def test_a_person_is_no_conversation_in_chat():
    assert key(CHAT, in_chat(TALK) | {"user": "bob"}) == key(CHAT, in_chat(TALK))


HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        pytest.param(
            json.dumps({"device_id": HEX, "account_uuid": "", "session_id": "s1"}),
            json.dumps({"device_id": "other", "account_uuid": "a", "session_id": "s1"}),
            json.dumps({"device_id": HEX, "account_uuid": "", "session_id": "s2"}),
            id="claude-code-2",
        ),
        pytest.param(
            f"user_{HEX}_account__session_s1",
            f"user_{HEX}_account_a_session_s1",
            f"user_{HEX}_account__session_s2",
            id="claude-code-1",
        ),
    ],
)
def test_of_the_user_of_claude_code_only_the_session_counts(one, same, other):
    def named(user: str) -> bytes:
        return key(ANTHROPIC, {"metadata": {"user_id": user}})

    assert named(one) == named(same) != named(other)


@pytest.mark.parametrize(
    "user", ["bob", "{", '{"session_id": 5}', '{"device_id":"d"}', "[" * 5000, "{" * 5000, "_session_"]
)
def test_a_user_without_a_session_counts_as_a_whole(user):
    one, other = (key(ANTHROPIC, {"metadata": {"user_id": value}}) for value in (user, f"{user}+"))

    assert one != other


# ---- recorded requests


def test_claude_code_is_known_by_its_header_else_by_its_user():
    body = golden("anthropic/request_claude_code.json", "read")
    header = (b"x-claude-code-session-id", b"5c1e")

    assert key(ANTHROPIC, body, header) == key(ANTHROPIC, {}, header)
    assert key(ANTHROPIC, body) == key(ANTHROPIC, {"metadata": body["metadata"]})


def test_codex_is_known_by_its_header_else_by_its_cache_key():
    body = golden("openai-responses/request-codex-2026.json", "body")
    new = ((b"session-id", b"s"), (b"thread-id", b"t"), (b"x-client-request-id", b"t"), (b"x-codex-window-id", b"s:0"))
    old = ((b"conversation_id", b"s"), (b"session_id", b"s"))

    assert key(RESPONSES, body, *new) == key(RESPONSES, {}, new[0])
    assert key(RESPONSES, body, *old) == key(RESPONSES, {}, old[1])
    assert key(RESPONSES, body) == key(RESPONSES, {"prompt_cache_key": "thread-1"})


def test_the_gemini_cli_is_known_by_its_session_after_a_login_else_by_its_first_turn():
    known = session(GEMINI_CLI, golden("gemini-cli/request_gemini_cli.json", "body"))
    plain = golden("gemini/request_gemini_cli.json", "body")
    before = plain | {"contents": plain["contents"][:1]}

    assert known.key == key(GEMINI_CLI, {"request": {"session_id": "5c1e"}})
    assert session(GEMINI, before) == Session(key(GEMINI, plain), is_new=True)
    assert not session(GEMINI, plain).is_new


def test_an_agent_without_a_name_is_known_by_its_first_turn():
    body = golden("openai-chat/request-agent.json", "body")
    before = body | {"messages": body["messages"][:3]}

    assert session(CHAT, before) == Session(key(CHAT, body), is_new=True)
    assert not session(CHAT, body).is_new


def test_opencode_is_known_by_its_header():
    headers = ((b"x-session-affinity", b"ses_1"), (b"x-session-id", b"ses_1"))

    assert key(CHAT, in_chat(TALK), *headers) == key(CHAT, in_chat([("user", "A title, please.")]), *headers)


# ---- bodies that are none


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b"{",
        b"{}",
        b"\xff",
        b'{"messages": 5, "input": 5, "contents": 5, "request": 5}',
        b'{"messages": [5], "input": [5], "contents": [5], "request": {"contents": [5]}}',
        b'{"messages":%b,"input":%b,"contents":%b}' % ((b"[" * 100_000,) * 3),
        b'{"request": null}',
    ],
)
def test_a_body_that_is_no_request_has_no_conversation(dialect, body):
    assert session_of(dialect, (), body) is None


@pytest.mark.parametrize("content", [5, True, None, {}, [5], [None], [[]], ["hi"], [{"text": None}], [{"text": 5}], ""])
@pytest.mark.parametrize(("dialect", "field"), [(ANTHROPIC, "messages"), (CHAT, "messages"), (RESPONSES, "input")])
def test_contents_of_any_shape_are_only_compared(dialect, field, content):
    first = {field: [{"role": "user", "content": content}]}
    later = {field: [*first[field], {"role": "assistant", "content": content}]}

    assert session(dialect, first) == Session(key(dialect, later), is_new=True)


def test_broken_text_inside_a_content_never_raises():
    body = b'{"messages":[{"role":"user","content":[{"\xff":"\xfe","text":"\xff"}]}]}'

    assert session_of(CHAT, (), body) == session_of(CHAT, (), body)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["role", "content", "parts", "text", "type", "id", "cache_control", "user_id", "session_id"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
FIELDS = (
    "messages",
    "system",
    "metadata",
    "input",
    "instructions",
    "conversation",
    "prompt_cache_key",
    "contents",
    "systemInstruction",
    "session_id",
)


@settings(deadline=None)
@given(st.binary(), st.lists(st.tuples(st.sampled_from(HEADERS) | st.binary(), st.binary())))
def test_no_bytes_raise(body, headers):
    for dialect in DIALECTS:
        session_of(dialect, tuple(headers), body)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(FIELDS), ANY_JSON))
def test_no_request_raises_and_the_same_request_has_the_same_key(fields):
    for body in (json.dumps(fields).encode(), json.dumps({"request": fields}).encode()):
        for dialect in DIALECTS:
            assert session_of(dialect, (), body) == session_of(dialect, (), body)


# ---- conversations that begin ---------------------------------------------------------------------------------------


def route():
    accounts = [Account(name, "p", name, serves=(Served("m", "m"),)) for name in "abc"]
    found = Catalog(accounts).find("m")
    assert found is not None
    return found


@pytest.mark.parametrize(("dialect", "spoken"), SPOKEN)
def test_the_second_turn_finds_whoever_answered_the_first(dialect, spoken):
    pool = Pool()
    bindings = Bindings(pool, lambda: 0.0)
    for _ in range(2):
        lease = pool.acquire(route(), 0.0)
        assert lease is not None
    bindings.begin(dialect, json.dumps(spoken(TALK[:1])).encode(), lease, "m")

    bindings.settle()
    later = pool.acquire(route(), 1.0, session=session(dialect, spoken(TALK[:3])))

    assert later is not None
    assert (later.candidate.account.id, later.why) == ("b", "session")


def test_what_waits_to_be_told_apart_is_bounded():
    pool = Pool()
    bindings = Bindings(pool, lambda: 0.0)
    lease = pool.acquire(route(), 0.0)
    assert lease is not None
    for number in range(1000):
        bindings.begin(CHAT, json.dumps(in_chat([("user", f"question {number}")])).encode(), lease, "m")
        assert len(bindings._waiting) < 64
    bindings.begin(CHAT, json.dumps(in_chat([("user", "x" * 20_000)])).encode(), lease, "m")

    assert not bindings._waiting


def test_a_body_that_cannot_be_read_binds_nothing():
    pool = Pool()
    bindings = Bindings(pool, lambda: 0.0)
    lease = pool.acquire(route(), 0.0)
    assert lease is not None
    bindings.begin(CHAT, b"{", lease, "m")

    bindings.settle()

    assert not pool._sessions
