"""Counting what was asked and what it cost: exact sums, bounded memory, and counts out of every kind of answer."""

import json
import tracemalloc

import pytest

from cliproxy.canon.naming import ToolNames
from cliproxy.canon.request import Request
from cliproxy.canon.usage import Usage
from cliproxy.dialects import anthropic, gemini, openai_chat, openai_responses
from cliproxy.dialects.base import Echo
from cliproxy.gateway.bridge import PassingFlow, TranslatingFlow, events_of_stream, passed_whole, translated_whole
from cliproxy.gateway.tally import LEFT, Tally
from cliproxy.gateway.usage import OTHER, Record, Tokens, UsageLedger
from cliproxy.routing.accounts import Account
from cliproxy.routing.catalog import Candidate
from cliproxy.routing.pool import Lease

DAY = 86_400
NOON = 1_764_000_000 - 1_764_000_000 % DAY + 12 * 3600


def spent(taken: int = 3, given: int = 4) -> Tokens:
    return Tokens.of(Usage(taken, output_total=given))


def record(number: int = 1, **members: object) -> Record:
    given = {"request_id": f"req_a{number:08x}", "at": float(NOON), "dialect": "openai-chat", "asked": "m"}
    return Record(**given | {"model": "m", "status": 200, "tokens": spent()} | members)  # type: ignore[arg-type]


def filled(*records: Record) -> UsageLedger:
    ledger = UsageLedger("req_a")
    for one in records:
        ledger.add(one)
    return ledger


# -- sums


def test_requests_and_tokens_are_added_up_by_day_hour_and_name():
    ledger = filled(
        record(1, tokens=spent(1, 2)),
        record(2, tokens=spent(10, 20), at=NOON + DAY + 3600.0),
        record(3, tokens=spent(100, 200), model="n"),
    )

    assert (ledger.requests, ledger.success, ledger.failed, ledger.tokens) == (3, 3, 0, 333)
    assert {day - NOON // DAY: (one.requests, one.tokens) for day, one in ledger.days.items()} == {
        0: (2, 303),
        1: (1, 30),
    }
    assert [(hour, one.requests, one.tokens) for hour, one in enumerate(ledger.hours) if one.requests] == [
        (12, 2, 303),
        (13, 1, 30),
    ]
    assert {name: (one.requests, one.tokens) for name, one in ledger.models.items()} == {
        ("openai-chat", "m"): (2, 33),
        ("openai-chat", "n"): (1, 300),
    }


def test_failures_are_counted_and_callers_who_left_among_them():
    ledger = filled(record(1), record(2, status=502, is_failed=True), record(3, status=LEFT, is_failed=True))

    assert (ledger.success, ledger.failed, ledger.left) == (1, 2, 1)


def test_an_answer_whose_upstream_told_no_tokens_is_counted_as_such():
    ledger = filled(record(1, tokens=Tokens()), record(2, tokens=spent(0, 0)))

    assert (ledger.requests, ledger.untold, ledger.tokens) == (2, 1, 0)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (None, Tokens()),
        (Usage(), Tokens()),
        (Usage(cache_read=5), Tokens()),
        (Usage(input_total=3), Tokens(3, total_tokens=3)),
        (Usage(output_total=4), Tokens(output_tokens=4, total_tokens=4)),
        (Usage(9, 2, 1, 4, 3), Tokens(9, 4, 3, 2, 13)),
        (Usage(-5, output_total=10**30), Tokens(0, 10**12, total_tokens=10**12)),
    ],
)
def test_tokens_tell_what_is_known_within_reason(usage, tokens):
    assert Tokens.of(usage) == tokens


def test_accounts_are_judged_in_all_and_by_ten_minutes():
    ledger = filled()
    for at, is_success in ((0.0, True), (599.0, False), (600.0, True), (590.0, True)):
        ledger.judged("a", at, is_success=is_success)

    tally = ledger.accounts["a"]

    assert (tally.success, tally.failed) == (3, 1)
    assert [(slot.number, slot.success, slot.failed) for slot in tally.recent] == [(0, 1, 1), (1, 2, 0)]


def test_only_the_last_slots_of_an_account_are_kept():
    ledger = filled()
    for number in range(100):
        ledger.judged("a", number * 600.0, is_success=True)

    assert [slot.number for slot in ledger.accounts["a"].recent] == [*range(80, 100)]
    assert ledger.accounts["a"].success == 100


# -- bounds


def test_memory_stays_flat_over_many_requests():
    def serve(ledger: UsageLedger, numbers: range) -> None:
        for number in numbers:
            ledger.add(record(number, model=f"model-{number}" * 20, dialect=f"dialect-{number % 5}", at=NOON + number))
            ledger.judged(f"account-{number % 50}", NOON + number, is_success=True)

    tracemalloc.start()
    ledger = UsageLedger("req_a")
    serve(ledger, range(20_000))
    full = tracemalloc.get_traced_memory()[0]

    serve(ledger, range(20_000, 100_000))

    grown = tracemalloc.get_traced_memory()[0] - full
    tracemalloc.stop()
    assert grown < 500_000
    assert ledger.requests == 100_000
    assert sum(one.requests for one in ledger.models.values()) == 100_000
    assert sum(one.requests for one in ledger.days.values()) == 100_000


def test_names_beyond_the_bound_are_counted_together():
    ledger = filled(*(record(number, model=f"model-{number}") for number in range(5000)))

    assert len(ledger.models) == 4097
    assert ledger.models[OTHER, OTHER].requests == 5000 - 4096
    assert sum(len(kept) for _, _, kept in ledger.by_name()) == 1000


def test_only_the_newest_requests_are_kept_one_by_one():
    ledger = filled(*(record(number) for number in range(3000)))

    assert [one.request_id for one in ledger.details] == [record(number).request_id for number in range(2000, 3000)]


def test_a_queue_that_nobody_empties_gives_way():
    ledger = filled(*(record(number) for number in range(6000)))

    drained = ledger.drain(10_000)

    assert [one.request_id for one in drained] == [record(number).request_id for number in range(1000, 6000)]


def test_each_request_is_drained_once_and_oldest_first():
    ledger = filled(record(1), record(2), record(3))

    assert [one.request_id for one in ledger.drain(2)] == [record(1).request_id, record(2).request_id]
    assert [one.request_id for one in ledger.drain(2)] == [record(3).request_id]
    assert ledger.drain(1) == []
    assert ledger.requests == 3


# -- merging


def test_records_of_another_process_are_counted_once():
    ledger = filled(record(1))
    foreign = [record(2, request_id="req_b2"), record(3, request_id="req_b3", is_failed=True)]

    assert ledger.merge(foreign) == (2, 0)
    assert ledger.merge(foreign) == (0, 2)
    assert (ledger.requests, ledger.failed, ledger.tokens) == (3, 1, 21)


def test_own_records_are_known_also_when_they_are_no_longer_kept():
    ledger = filled(*(record(number) for number in range(2000)))

    assert ledger.merge([record(0), record(1999)]) == (0, 2)


def test_records_without_an_id_are_told_apart_by_what_they_say():
    ledger = filled()
    old = record(1, request_id="")

    assert ledger.merge([old, record(1, request_id="", at=NOON + 0.001), old]) == (2, 1)


def test_imported_records_are_not_drained():
    ledger = filled()
    ledger.merge([record(1, request_id="req_b")])

    assert ledger.drain(1) == []


# -- one request


def lease(name: str = "a") -> Lease:
    return Lease(Candidate(Account(f"id-{name}", "claude", f"label-{name}"), f"model-{name}"))


def counted(tally: Tally, seconds: float = 0.0) -> Record:
    ledger = UsageLedger("req_x")
    ledger.note(tally, "req_1", 5.0, seconds)
    ledger.settle()
    return ledger.details[-1]


def test_a_record_tells_of_the_last_account_that_was_asked():
    tally = Tally("anthropic", "alias")
    tally.attempt(lease("a"), 0.0)
    tally.attempt(lease("b"), 0.0)
    tally.status = 200

    told = counted(tally, 0.25)

    assert (told.asked, told.model, told.account, told.label) == ("alias", "model-b", "id-b", "label-b")
    assert (told.attempts, told.latency_ms, told.is_failed) == (2, 250, False)


def test_what_an_earlier_attempt_told_does_not_count():
    class Told:
        def usage(self) -> Usage:
            return Usage(1, output_total=1)

    tally = Tally("anthropic", "m")
    tally.attempt(lease(), 0.0)
    tally.answer = Told()
    tally.attempt(lease(), 0.0)

    assert counted(tally).tokens == Tokens()


def test_a_request_that_nobody_was_asked_for_is_recorded_too():
    tally = Tally("anthropic", "x" * 10_000)
    tally.status = 404

    told = counted(tally)

    assert (told.account, told.attempts, told.is_failed) == ("", 0, True)
    assert told.model == told.asked == "x" * 160


# -- what answers tell

_CHAT_USAGE = (
    b'{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16,'
    b'"prompt_tokens_details":{"cached_tokens":2},"completion_tokens_details":{"reasoning_tokens":5}}'
)
_RESPONSES_USAGE = (
    b'{"input_tokens":9,"input_tokens_details":{"cached_tokens":2},"output_tokens":7,'
    b'"output_tokens_details":{"reasoning_tokens":5},"total_tokens":16}'
)
_GEMINI_USAGE = (
    b'{"promptTokenCount":9,"cachedContentTokenCount":2,"candidatesTokenCount":2,"thoughtsTokenCount":5,'
    b'"promptTokensDetails":[{"modality":"TEXT","tokenCount":99}],"totalTokenCount":16}'
)
STREAMS = {
    "chat": (
        openai_chat.DIALECT,
        b'data: {"id":"c","model":"r","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
        b'data: {"id":"c","model":"r","choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
        b'data: {"id":"c","model":"r","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        b'data: {"id":"c","model":"r","choices":[],"usage":' + _CHAT_USAGE + b"}\n\ndata: [DONE]\n\n",
    ),
    "responses": (
        openai_responses.DIALECT,
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"r","model":"r"}}\n\n'
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","output_index":0,"delta":"hi"}\n\n'
        b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"r","model":"r",'
        b'"status":"completed","output":[],"usage":' + _RESPONSES_USAGE + b"}}\n\n",
    ),
    "anthropic": (
        anthropic.DIALECT,
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
        b'"model":"r","content":[],"usage":{"input_tokens":7,"cache_read_input_tokens":2,"output_tokens":1}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"hi"}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
        b'"usage":{"output_tokens":7,"output_tokens_details":{"thinking_tokens":5}}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ),
    "gemini": (
        gemini.DIALECT,
        b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"h"}]}}],'
        b'"usageMetadata":{"promptTokenCount":9},"modelVersion":"r"}\n\n'
        b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"i"}]},"finishReason":"STOP"}],'
        b'"usageMetadata":' + _GEMINI_USAGE + b',"modelVersion":"r"}\n\n',
    ),
}
WHOLES = {
    "chat": b'{"id":"c","model":"r","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},'
    b'"finish_reason":"stop"}],"usage":' + _CHAT_USAGE + b"}",
    "responses": b'{"id":"r","model":"r","status":"completed","output":[{"type":"message","id":"i","role":"assistant",'
    b'"status":"completed","content":[{"type":"output_text","text":"hi","annotations":[]}]}],"usage":'
    + _RESPONSES_USAGE
    + b"}",
    "anthropic": b'{"id":"m","type":"message","role":"assistant","model":"r","content":[{"type":"text","text":"hi"}],'
    b'"stop_reason":"end_turn","usage":{"input_tokens":7,"cache_read_input_tokens":2,"output_tokens":7,'
    b'"output_tokens_details":{"thinking_tokens":5}}}',
    "gemini": b'{"candidates":[{"content":{"role":"model","parts":[{"text":"hi"}]},"finishReason":"STOP"}],'
    b'"usageMetadata":' + _GEMINI_USAGE + b',"modelVersion":"r"}',
}
ALL = Tokens(9, 7, 5, 2, 16)
NO_NAMES = ToolNames({})
each_upstream = pytest.mark.parametrize("upstream", STREAMS)
each_caller = pytest.mark.parametrize("caller", STREAMS)


def echo() -> Echo:
    return Echo("m", Request("m"), "seed", 0)


def frames(stream: bytes) -> list[bytes]:
    return [frame + b"\n\n" for frame in stream.split(b"\n\n") if frame]


@each_upstream
@each_caller
def test_a_stream_tells_all_counts(upstream, caller):
    dialect, stream = STREAMS[upstream]
    client = STREAMS[caller][0]
    same = dialect is client
    flow = PassingFlow(dialect) if same else TranslatingFlow(dialect.reader(), client.writer(echo()), NO_NAMES)

    for frame in frames(stream):
        flow.feed(frame)
    flow.close()

    assert Tokens.of(flow.usage()) == ALL


@each_upstream
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_a_passing_stream_tells_all_counts_however_it_is_cut(upstream, size):
    dialect, stream = STREAMS[upstream]
    flow = PassingFlow(dialect)

    for start in range(0, len(stream), size):
        flow.feed(stream[start : start + size])
    flow.close()

    assert Tokens.of(flow.usage()) == ALL


@each_upstream
@each_caller
def test_a_whole_answer_tells_all_counts(upstream, caller):
    dialect, client, body = STREAMS[upstream][0], STREAMS[caller][0], WHOLES[upstream]

    if dialect is client:
        _, counted = passed_whole(dialect, body, "")
    else:
        _, counted = translated_whole(dialect.read_answer(body), NO_NAMES, client, echo())

    assert Tokens.of(counted.usage()) == ALL


@each_upstream
def test_a_stream_in_place_of_a_whole_answer_tells_all_counts(upstream):
    dialect, stream = STREAMS[upstream]

    _, counted = translated_whole(events_of_stream(dialect.reader(), stream), NO_NAMES, dialect, echo())

    assert Tokens.of(counted.usage()) == ALL


@each_upstream
@pytest.mark.parametrize("counts", [b"null", b"[]", b'"many"', b'{"prompt_tokens":"x","input_tokens":[]}', b"{}"])
def test_a_whole_answer_with_odd_counts_passes_and_tells_none(upstream, counts):
    dialect, body = STREAMS[upstream][0], WHOLES[upstream]
    name = "usageMetadata" if upstream == "gemini" else "usage"
    odd = json.dumps(json.loads(body) | {name: json.loads(counts), "padding": "x" * 300}).encode()

    out, counted = passed_whole(dialect, odd, "")

    assert out == odd
    assert Tokens.of(counted.usage()) == Tokens()


def test_a_translated_stream_that_breaks_off_tells_what_it_had_told():
    dialect, stream = STREAMS["anthropic"]
    flow = TranslatingFlow(dialect.reader(), openai_chat.DIALECT.writer(echo()), NO_NAMES)
    for frame in frames(stream)[:3]:
        flow.feed(frame)

    flow.close()

    assert flow.problem is not None
    assert Tokens.of(flow.usage()) == Tokens(9, 1, None, 2, 10)


def test_a_passing_stream_that_breaks_off_tells_what_it_had_told():
    dialect, stream = STREAMS["anthropic"]
    flow = PassingFlow(dialect)
    for frame in frames(stream)[:3]:
        flow.feed(frame)

    flow.close()

    assert flow.problem is not None
    assert Tokens.of(flow.usage()) == Tokens(9, 1, None, 2, 10)


def test_a_stream_of_many_reports_keeps_few_of_them():
    dialect, stream = STREAMS["anthropic"]
    tap = dialect.tap()
    first, *_, report, _ = frames(stream)
    tap.look(first)
    for _ in range(1000):
        tap.look(report.replace(b'"output_tokens":7', b'"output_tokens":3'))
    tap.look(report)

    assert Tokens.of(tap.usage()) == ALL
    assert len(tap._kept) <= 8
