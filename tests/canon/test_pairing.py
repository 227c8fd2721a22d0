"""Histories made whole: each fault of clients alone, then all of them at random."""

import pytest
from histories import BROKEN, NARROW, SOUND, WIDE, assert_paired, told
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.canon.pairing import pair
from cliproxy.canon.parts import Image, Media, Reasoning, Text, ToolCall, ToolResult, Turn

NONE = "No result was recorded for this call."


def said(*parts) -> Turn:
    return Turn("assistant", parts)


def heard(*parts) -> Turn:
    return Turn("user", parts)


def call(call_id: str, name: str = "f") -> ToolCall:
    return ToolCall(call_id, name, "{}")


def result(call_id: str, text: str = "done", name: str = "f") -> ToolResult:
    return ToolResult(call_id, (Text(text),), name)


def paired(*turns: Turn, fit=WIDE) -> tuple[Turn, ...]:
    out, _ = pair(turns, fit)
    assert_paired(out, fit)
    return out


def repaired(*turns: Turn, fit=WIDE) -> list[str]:
    return sorted({f"{loss.path} {loss.action}" for loss in pair(turns, fit)[1]})


def results_in(turn: Turn) -> list[tuple[str, str]]:
    return [(part.call_id, part.content[0].text) for part in turn.parts if isinstance(part, ToolResult)]


Q, MORE = heard(Text("q")), heard(Text("more"))


def test_a_history_without_calls_is_left_alone() -> None:
    turns = (Q, said(Text("a")), MORE)

    assert pair(turns, WIDE) == (turns, ())


def test_a_paired_history_is_left_alone() -> None:
    turns = (Q, said(call("a"), call("b")), heard(result("a"), result("b"), Text("and?")))

    assert pair(turns, WIDE) == (turns, ())


def test_results_in_several_turns_are_gathered_in_the_order_of_the_calls() -> None:
    out = paired(Q, said(call("a"), call("b")), heard(result("b", "2")), heard(result("a", "1")), MORE)

    assert [turn.role for turn in out] == ["user", "assistant", "user", "user"]
    assert results_in(out[2]) == [("a", "1"), ("b", "2")]


def test_a_late_result_is_found_before_one_is_made_up() -> None:
    turns = (Q, said(call("a")), MORE, said(Text("wait")), heard(result("a")), MORE)

    out = paired(*turns)

    assert results_in(out[2]) == [("a", "done")]
    assert repaired(*turns) == []


def test_a_result_that_comes_after_the_next_calls_is_found_too() -> None:
    turns = (Q, said(call("a")), said(call("b")), heard(result("a", "1"), result("b", "2")), MORE)

    out = paired(*turns)

    assert [results_in(turn) for turn in out if results_in(turn)] == [[("a", "1")], [("b", "2")]]
    assert repaired(*turns) == []


def test_results_come_first_in_their_turn() -> None:
    out = paired(Q, said(call("a")), heard(Text("look"), result("a")))

    assert [type(part) for part in out[2].parts] == [ToolResult, Text]


def test_instructions_between_call_and_result_go_behind_the_results() -> None:
    out = paired(Q, said(call("a")), Turn("developer", (Text("be brief"),)), heard(result("a")), MORE)

    assert [turn.role for turn in out] == ["user", "assistant", "user", "developer", "user"]


def test_an_answer_between_call_and_result_goes_behind_the_results() -> None:
    out = paired(Q, said(call("a")), said(Text("hold on")), heard(result("a")))

    assert [turn.role for turn in out] == ["user", "assistant", "user", "assistant"]


def test_of_a_repeated_result_the_last_content_counts_at_the_first_place() -> None:
    turns = (Q, said(call("a"), call("b")), heard(result("a", "old"), result("b")), heard(result("a", "new")))

    assert results_in(paired(*turns)[2]) == [("a", "new"), ("b", "done")]


def test_a_result_repeated_after_the_next_calls_changes_nothing_before_them() -> None:
    turns = (Q, said(call("a")), heard(result("a", "old")), said(call("b")), heard(result("b"), result("a", "new")))

    out = paired(*turns)

    assert results_in(out[2]) == [("a", "old")]
    assert out[4].parts[-1] == Text("[result of f]: new")


def test_an_orphan_result_becomes_text_and_keeps_its_media() -> None:
    picture = Image(Media(url="https://a.example/p.png"))
    turns = (heard(ToolResult("gone", (Text("1"), picture, Text("2")), "look"), Text("and?")),)

    assert paired(*turns)[0].parts == (Text("[result of look]: 1\n2"), picture, Text("and?"))
    assert repaired(*turns) == ["turns.tool_result emulated"]


def test_a_trimmed_head_leaves_a_conversation_that_goes_on() -> None:
    out = paired(heard(result("gone")), said(Text("fine")), MORE)

    assert [turn.role for turn in out] == ["user", "assistant", "user"]


def test_a_cancelled_call_gets_a_result_that_says_so() -> None:
    turns = (Q, said(call("a"), call("b")), heard(result("b")), MORE)

    out = paired(*turns)

    assert results_in(out[2]) == [("a", NONE), ("b", "done")]
    assert out[2].parts[0].is_error
    assert repaired(*turns) == ["turns.tool_call emulated"]


def test_an_unanswered_call_before_new_words_gets_a_result_that_says_so() -> None:
    assert results_in(paired(Q, said(call("a")), MORE)[2]) == [("a", NONE)]


def test_unanswered_calls_at_the_very_end_are_left_out() -> None:
    turns = (Q, said(Text("let me see"), call("a")))

    assert paired(*turns) == (Q, said(Text("let me see")))
    assert repaired(*turns) == ["turns.tool_call dropped"]


@pytest.mark.parametrize("before", [(), (Reasoning(("hm",)),)])
def test_a_last_turn_of_unanswered_calls_alone_is_left_out_with_its_reasoning(before) -> None:
    assert paired(Q, said(*before, call("a"))) == (Q,)


def test_an_id_used_again_in_a_later_round_is_told_apart() -> None:
    out = paired(Q, said(call("a")), heard(result("a", "1")), said(call("a")), heard(result("a", "2")))

    assert [results_in(turn) for turn in out if results_in(turn)] == [[("a", "1")], [("a_2", "2")]]


def test_a_made_up_id_never_meets_a_callers_own() -> None:
    out = paired(said(call("a"), call("a_2")), heard(result("a"), result("a_2")), said(call("a")), heard(result("a")))

    assert [part.id for part in told(out) if isinstance(part, ToolCall)] == ["a", "a_2", "a_3"]


def test_one_id_for_two_calls_of_a_turn_takes_the_results_in_order() -> None:
    out = paired(said(call("a", "f"), call("a", "g")), heard(result("a", "1"), result("a", "2")))

    assert results_in(out[1]) == [("a", "1"), ("a_2", "2")]


def test_ids_that_differ_only_in_forbidden_letters_or_at_the_end_stay_apart() -> None:
    ids = ["a.b", "a:b", "a_b", "x" * 70 + "1", "x" * 70 + "2"]
    turns = (said(*map(call, ids)), heard(*(result(call_id, call_id) for call_id in reversed(ids))), MORE)

    out = paired(*turns, fit=NARROW)

    assert [text for _, text in results_in(out[1])] == ids
    assert out[0].parts[2].id == "a_b"


def test_results_without_ids_go_to_the_calls_of_their_name_in_order() -> None:
    calls = (call("", "f"), call("", "g"), call("", "f"))
    results = (result("", "g1", "g"), result("", "f1", "f"), result("", "f2", "f"))

    assert [text for _, text in results_in(paired(said(*calls), heard(*results))[1])] == ["f1", "g1", "f2"]


def test_a_result_without_an_id_answers_a_call_that_has_one() -> None:
    assert results_in(
        paired(said(call("a", "f"), call("b", "g")), heard(result("", "2", "g"), result("a", "1")))[1]
    ) == [
        ("a", "1"),
        ("b", "2"),
    ]


def test_more_results_than_calls_become_text() -> None:
    out = paired(said(call("", "f")), heard(result("", "1"), result("", "2")))

    assert results_in(out[1])[0][1] == "1"
    assert out[1].parts[1] == Text("[result of f]: 2")


def test_ids_made_up_depend_on_place_and_name_only() -> None:
    turns = (Q, said(call("", "f"), call("", "f")), heard(result("", "1"), result("", "2")))

    first, second = (part.id for part in paired(*turns)[1].parts)

    assert first != second
    assert paired(*turns) == paired(*turns, MORE)[:3]


def test_results_take_name_and_kind_of_their_call() -> None:
    custom = ToolCall("a", "exec", "ls", is_custom=True)

    assert paired(said(custom), heard(ToolResult("a")))[1].parts == (ToolResult("a", (), "exec", is_custom=True),)


def test_white_space_around_an_id_does_not_part_call_and_result() -> None:
    assert results_in(paired(said(call(" a")), heard(result("a ")))[1]) == [("a", "done")]


def test_thousands_of_faults_take_no_more_than_their_share_of_time() -> None:
    turns = [said(call(str(number))) for number in range(3000)]
    turns += [heard(result(str(number))) for number in reversed(range(3000))]

    assert len(paired(*turns)) == 6000


# ---- laws -----------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(BROKEN, st.sampled_from((WIDE, NARROW)))
def test_any_history_comes_out_paired_and_stays_so(turns, fit) -> None:
    out, _ = pair(turns, fit)

    assert_paired(out, fit)
    assert pair(turns, fit)[0] == out
    assert pair(out, fit) == (out, ())


@settings(max_examples=70, deadline=None)
@given(BROKEN)
def test_no_words_are_lost(turns) -> None:
    out, _ = pair(turns, WIDE)

    kept = [part for part in told(out) if isinstance(part, Text)]
    assert [part for part in told(turns) if isinstance(part, Text)] == [
        part for part in kept if "[result" not in part.text
    ]


@settings(max_examples=70, deadline=None)
@given(SOUND, BROKEN, st.sampled_from((WIDE, NARROW)))
def test_a_longer_history_begins_like_the_shorter_one(shorter, more, fit) -> None:
    before, _ = pair(shorter, fit)

    after, _ = pair((*shorter, Turn("user", (Text("next"),)), said(Text("well"), call("new")), *more), fit)

    assert after[: len(before)] == before
