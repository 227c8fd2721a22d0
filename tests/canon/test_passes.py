"""The passes, each alone, then `fitted` as a whole: exact losses, the same result every time, nothing done twice."""

import os
import subprocess
import sys

import pytest
from histories import BROKEN, SOUND, assert_paired
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from cliproxy.canon.errors import InvalidRequest
from cliproxy.canon.fit import Capability, Fit
from cliproxy.canon.parts import (
    Audio,
    Cache,
    Document,
    Image,
    Media,
    Opaque,
    Reasoning,
    Refusal,
    Signature,
    Text,
    ToolCall,
    ToolResult,
    Turn,
    Video,
)
from cliproxy.canon.passes import Fitted, fitted
from cliproxy.canon.request import Limits, Request, Sampling, Thinking, Tool, ToolChoice

PLAIN = Fit("plain", "openai")
STRICT = Fit(
    "strict",
    "anthropic",
    id_charset="A-Za-z0-9_-",
    has_inline_instructions=False,
    has_result_media=False,
    reasoning="signed",
    media=frozenset({"image"}),
    merges_turns=True,
    starts_with_user=True,
    takes_prefill=False,
    needs_max_tokens=True,
)
ANY = Capability()
PICTURE = Image(Media("image/png", data="AAAA"))
Q = Turn("user", (Text("q"),))


def bent(*turns: Turn, fit: Fit = PLAIN, capability: Capability = ANY, **fields) -> Fitted:
    return fitted(Request("m", turns=turns, **fields), fit, capability)


def lost(result: Fitted) -> list[str]:
    return [f"{loss.path} {loss.action}" for loss in result.losses]


def user(*parts) -> Turn:
    return Turn("user", parts)


def said(*parts) -> Turn:
    return Turn("assistant", parts)


def system(text: str) -> Turn:
    return Turn("system", (Text(text),))


# ---- instructions ---------------------------------------------------------------------------------------------------


def test_leading_instructions_become_blocks_in_order() -> None:
    marked = Turn("developer", (Text("b"), Text("c", Cache("5m"))))

    result = bent(system("a"), marked, Q, system=(Text("top"),))

    assert result.request.system == (Text("top"), Text("a"), Text("b"), Text("c", Cache("5m")))
    assert (result.request.turns, lost(result)) == ((Q,), [])


def test_instructions_hold_text_only_and_say_so() -> None:
    assert lost(bent(Turn("system", (Text("a"), PICTURE)), Q)) == ["system dropped"]


def test_later_instructions_keep_their_place_where_there_is_a_role_for_them() -> None:
    result = bent(Q, system("be brief"), Q)

    assert (result.request.turns[1], lost(result)) == (system("be brief"), [])


def test_later_instructions_become_marked_user_text_where_there_is_none() -> None:
    result = bent(Q, Turn("system", (Text("be brief"), Text("and kind", Cache()))), said(Text("a")), Q, fit=STRICT)

    reminder = Text("<system-reminder>\nbe brief\n\nand kind\n</system-reminder>", Cache())
    assert result.request.turns[0] == user(Text("q"), reminder)
    assert "turns.system emulated" in lost(result)


def test_empty_instructions_in_mid_conversation_are_left_out() -> None:
    assert bent(Q, system(" "), said(Text("a")), Q, fit=STRICT).request.turns == (Q, said(Text("a")), Q)


def test_a_request_of_instructions_only_is_sent_as_the_users_words() -> None:
    result = bent(system("do it"))

    assert (result.request.system, result.request.turns) == ((), (user(Text("do it")),))
    assert lost(result) == ["system emulated"]


@pytest.mark.parametrize(
    "turns",
    [
        (),
        (user(),),
        (user(Text("")),),
        (system(" "),),
        (said(Reasoning(("hm",))),),
        (said(ToolCall("a", "f", "{}")),),
        (user(Opaque("gemini", "thing", "{}")),),
    ],
)
def test_a_request_of_which_nothing_is_left_is_refused(turns: tuple[Turn, ...]) -> None:
    with pytest.raises(InvalidRequest, match="nothing to send"):
        bent(*turns)


# ---- tools ----------------------------------------------------------------------------------------------------------


def test_tools_and_parts_of_another_dialect_are_left_out_and_named() -> None:
    tools = (Tool("web_search", "opaque", dialect="other"), Tool("own", "opaque", dialect="plain"), Tool("f"))
    inner = ToolResult("a", (Text("x"), Opaque("other", "search_result", "{}")))
    turns = (
        user(Text("q"), Opaque("other", "container_upload", "{}"), Opaque("plain", "thing", "{}")),
        said(ToolCall("a", "f", "{}")),
        user(inner),
    )

    result = bent(*turns, tools=tools)

    assert [tool.name for tool in result.request.tools] == ["own", "f"]
    assert result.request.turns[0].parts == (Text("q"), Opaque("plain", "thing", "{}"))
    assert result.request.turns[2].parts[0].content == (Text("x"),)
    assert lost(result) == ["tools.web_search dropped", "turns.container_upload dropped", "turns.search_result dropped"]


def test_free_text_tools_are_functions_where_they_are_not_native() -> None:
    tool = Tool("exec", "custom")

    emulated, native = bent(Q, tools=(tool,)), bent(Q, tools=(tool,), fit=structs.replace(PLAIN, has_custom_tools=True))

    assert (emulated.request.tools[0].kind, lost(emulated)) == ("function", ["tools.exec emulated"])
    assert emulated.names.refs["exec"].is_custom
    assert (native.request.tools[0], lost(native), native.names.refs) == (tool, [], {})


def test_a_choice_without_tools_means_nothing() -> None:
    assert bent(Q, tool_choice=ToolChoice("required")).request.tool_choice is None


def test_a_choice_of_a_tool_that_is_gone_falls_back_to_auto() -> None:
    tools = (Tool("f"), Tool("search", "opaque", dialect="other"))

    result = bent(Q, tools=tools, tool_choice=ToolChoice("one", ("search",)))

    assert result.request.tool_choice == ToolChoice("auto")
    assert lost(result) == ["tools.search dropped", "tool_choice approximated"]


def test_of_allowed_tools_those_on_offer_stay() -> None:
    result = bent(Q, tools=(Tool("f"),), tool_choice=ToolChoice("allowed_required", ("f", "gone")))

    assert result.request.tool_choice == ToolChoice("allowed_required", ("f",))
    assert lost(result) == ["tool_choice approximated"]


def test_several_answers_are_refused() -> None:
    with pytest.raises(InvalidRequest) as caught:
        bent(Q, limits=Limits(n=2))

    assert caught.value.problem.param == "n"


# ---- reasoning ------------------------------------------------------------------------------------------------------

OWN, FOREIGN = Signature("s", "anthropic"), Signature("s", "google")


@pytest.mark.parametrize(
    ("fit", "kept"),
    [
        (STRICT, (Reasoning(("own",), signature=OWN),)),
        (
            structs.replace(PLAIN, reasoning="text"),
            (Reasoning(("own",)), Reasoning(("foreign",)), Reasoning(("plain",))),
        ),
        (PLAIN, ()),
    ],
)
def test_reasoning_returns_as_its_vendor_demands(fit: Fit, kept: tuple[Reasoning, ...]) -> None:
    thoughts = (Reasoning(("own",), signature=OWN), Reasoning(("foreign",), signature=FOREIGN), Reasoning(("plain",)))

    result = bent(Q, said(*thoughts, Text("a")), Q, fit=fit)

    assert result.request.turns[1].parts == (*kept, Text("a"))
    assert lost(result) == ([] if len(kept) == 3 else ["turns.reasoning dropped"])


def test_signatures_of_calls_and_texts_return_to_their_family_only_and_are_no_loss() -> None:
    turns = (Q, said(Text("a", signature=FOREIGN), ToolCall("c", "f", "{}", signature=OWN)), user(ToolResult("c")))

    result = bent(*turns, fit=STRICT)

    assert [part.signature for part in result.request.turns[1].parts] == [None, OWN]
    assert lost(result) == []


def test_an_empty_reasoning_is_left_out_without_a_word() -> None:
    result = bent(Q, said(Reasoning(), Text("a")), Q)

    assert (result.request.turns[1].parts, lost(result)) == ((Text("a"),), [])


def test_redacted_reasoning_without_text_is_lost_where_only_text_is_taken() -> None:
    blob = Reasoning(signature=Signature("blob", "anthropic", "redacted"))

    assert lost(bent(Q, said(blob, Text("a")), Q, fit=structs.replace(PLAIN, reasoning="text"))) == [
        "turns.reasoning dropped"
    ]


def test_thinking_is_told_in_the_models_words() -> None:
    result = bent(Q, thinking=Thinking("level", "high"), capability=Capability(thinking="budget", budgets=(0, 9000)))

    assert (result.request.thinking.mode, result.request.thinking.budget) == ("budget", 9000)
    assert lost(result) == ["thinking approximated"]


# ---- media and results ----------------------------------------------------------------------------------------------


def test_media_without_a_place_leave_a_note() -> None:
    parts = (PICTURE, Audio(Media("audio/wav", data="AAAA")), Video(Media(url="v")), Document(text="plain", title="t"))

    result = bent(user(*parts, Document(Media("application/pdf", data="AAAA")), Image(Media())), fit=STRICT)

    notes = [Text(f"[{name} left out]") for name in ("audio", "video", "document", "image")]
    assert result.request.turns[0].parts == (PICTURE, *notes[:2], Document(text="plain", title="t"), *notes[2:])
    assert lost(result) == [f"turns.{name} dropped" for name in ("audio", "video", "document", "image")]


def test_media_of_results_follow_all_results_of_the_batch() -> None:
    turns = (
        Q,
        said(ToolCall("a", "look", "{}"), ToolCall("b", "f", "{}")),
        user(
            ToolResult("a", (Text("see"), PICTURE, Document(text="notes"))), ToolResult("b", (Text("1"),)), Text("so?")
        ),
    )

    result = bent(*turns, fit=STRICT)

    kinds = [type(part).__name__ for part in result.request.turns[2].parts]
    assert kinds == ["ToolResult", "ToolResult", "Text", "Image", "Text"]
    note = Text("[1 attachment(s) of this result follow below]")
    assert result.request.turns[2].parts[0].content == (Text("see"), Document(text="notes"), note)
    assert result.request.turns[2].parts[2] == Text("Attached to the result of look:")
    assert lost(result) == ["turns.tool_result.media emulated"]


def test_media_stay_in_results_where_they_may() -> None:
    turns = (Q, said(ToolCall("a", "look", "{}")), user(ToolResult("a", (PICTURE,), "look")))

    assert bent(*turns).request.turns == turns


@pytest.mark.parametrize("flag", [True, False])
def test_a_failure_is_told_in_words_where_there_is_no_flag(flag: bool) -> None:
    turns = (Q, said(ToolCall("a", "f", "{}")), user(ToolResult("a", (Text("no"),), "f", is_error=True)))

    (told,) = bent(*turns, fit=structs.replace(PLAIN, has_result_errors=flag)).request.turns[2].parts

    assert told == (turns[2].parts[0] if flag else ToolResult("a", (Text("Error:"), Text("no")), "f"))


# ---- turns ----------------------------------------------------------------------------------------------------------


def test_empty_parts_and_turns_go_and_a_cache_mark_moves_to_the_part_before() -> None:
    result = bent(user(Text("q"), Text("", Cache("1h"))), said(Text(""), Refusal("")), user(Text("r")))

    assert result.request.turns == (user(Text("q", Cache("1h"))), user(Text("r")))
    assert bent(Q, system=(Text("a"), Text(" ", Cache()))).request.system == (Text("a", Cache()),)


def test_a_signed_empty_text_stays() -> None:
    signed = Text("", signature=OWN)

    assert bent(Q, said(Text("a"), signed), Q, fit=STRICT).request.turns[1].parts == (Text("a"), signed)


def test_turns_of_one_speaker_are_merged_where_they_must_be() -> None:
    turns = (Q, Q, said(Text("a")), said(Text("b")), Q)

    assert bent(*turns).request.turns == turns
    assert [len(turn.parts) for turn in bent(*turns, fit=STRICT).request.turns] == [2, 2, 1]


def test_a_first_answer_gets_a_minimal_question_before_it() -> None:
    result = bent(said(Text("hi")), Q, fit=STRICT)

    assert (result.request.turns[0], lost(result)) == (user(Text(".")), ["turns emulated"])


@pytest.mark.parametrize(
    ("fit", "capability", "continued"),
    [(PLAIN, ANY, False), (PLAIN, Capability(takes_prefill=False), True), (STRICT, ANY, True)],
)
def test_a_begun_answer_is_continued_by_the_model_or_by_request(
    fit: Fit, capability: Capability, continued: bool
) -> None:
    result = bent(Q, said(Text("It")), fit=fit, capability=capability)

    assert (result.request.turns[-1] == user(Text("Continue."))) is continued
    assert ("turns emulated" in lost(result)) is continued


# ---- limits and sampling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "most", "fit", "sent", "losses"),
    [
        (None, 0, PLAIN, None, []),
        (None, 9, PLAIN, None, []),
        (None, 9, STRICT, 9, []),
        (None, 0, STRICT, 32_000, []),
        (5, 9, PLAIN, 5, []),
        (10, 9, PLAIN, 9, ["limits.max_output_tokens approximated"]),
        (10, 0, PLAIN, 10, []),
    ],
)
def test_length_is_stated_where_it_must_be_and_never_above_the_models(wanted, most, fit, sent, losses) -> None:
    result = bent(Q, fit=fit, capability=Capability(max_output=most), limits=Limits(wanted))

    assert (result.request.limits.max_output_tokens, lost(result)) == (sent, losses)


def test_sampling_that_the_model_does_not_take_is_left_out_and_named() -> None:
    sampling = Sampling(temperature=0.0, top_k=3, seed=1)

    result = bent(Q, sampling=sampling, capability=Capability(takes_sampling=False))

    assert result.request.sampling == Sampling(seed=1)
    assert lost(result) == ["sampling.temperature dropped", "sampling.top_k dropped"]
    assert bent(Q, sampling=sampling).request.sampling == sampling


# ---- laws -----------------------------------------------------------------------------------------------------------

FITS = (PLAIN, STRICT, structs.replace(STRICT, reasoning="text", takes_prefill=True, has_namespaces=True))
_tools = st.builds(Tool, st.sampled_from(("f", "bad name", "g")), st.sampled_from(("function", "custom")))
REQUESTS = st.builds(
    Request,
    st.just("m"),
    turns=BROKEN.map(lambda turns: (*turns, Q)),
    tools=st.lists(_tools, max_size=3, unique_by=lambda tool: tool.name).map(tuple),
    tool_choice=st.sampled_from((None, ToolChoice("auto"), ToolChoice("one", ("bad name",)))),
    thinking=st.sampled_from((Thinking(), Thinking("off"), Thinking("budget", budget=3), Thinking("level", "max"))),
    limits=st.sampled_from((Limits(), Limits(10**6))),
)
CAPABILITIES = (
    ANY,
    Capability(max_output=9, thinking="level", levels=("low",), can_disable=False, takes_sampling=False),
    Capability(max_output=99, thinking="budget", budgets=(5, 50)),
)


@settings(max_examples=100, deadline=None)
@given(REQUESTS, st.sampled_from(FITS), st.sampled_from(CAPABILITIES))
def test_what_is_fitted_fits_and_is_not_bent_again(request_, fit, capability) -> None:
    result = fitted(request_, fit, capability)

    turns = result.request.turns
    assert turns
    assert_paired(turns, fit)
    assert all(turn.parts for turn in turns)
    assert not fit.starts_with_user or turns[0].role == "user"
    assert fit.has_inline_instructions or all(turn.role in ("user", "assistant") for turn in turns)
    assert len(set(result.losses)) == len(result.losses)
    again = fitted(result.request, fit, capability)
    assert (again.request, again.losses) == (result.request, ())


@settings(max_examples=60, deadline=None)
@given(SOUND, BROKEN, st.sampled_from(FITS))
def test_a_longer_conversation_begins_like_the_shorter_one(shorter, more, fit) -> None:
    before = bent(*shorter, Q, fit=fit).request

    after = bent(*shorter, Q, said(Text("well"), ToolCall("new", "f", "{}")), *more, Q, fit=fit).request

    assert after.turns[: len(before.turns)] == before.turns


_SCRIPT = """
from cliproxy.canon.fit import Capability, Fit
from cliproxy.canon.parts import *
from cliproxy.canon.passes import fitted
from cliproxy.canon.request import *
tools = (Tool("a.b"), Tool("a:b"), Tool("f"), Tool("a", namespace="n.s"), Tool("x y", "custom"))
calls = (ToolCall("", "a.b", "{}"), ToolCall("i.d", "f", "{}"), ToolCall("i.d", "gone", "{}"), Reasoning(("t",)))
results = (ToolResult("i.d", (Text("see"), Image(Media(url="u")))), ToolResult("orphan", (Text("?"),)))
turns = (Turn("assistant", calls), Turn("user", results), Turn("system", (Text("s"),)), Turn("user", (Text("q"),)))
request = Request("m", turns=turns, tools=tools, tool_choice=ToolChoice("allowed_auto", ("f", "a.b", "gone")))
for inline in (True, False):
    fit = Fit("x", "anthropic", id_charset="A-Za-z0-9_-", has_result_media=False, has_inline_instructions=inline)
    result = fitted(request, fit, Capability())
    print(result.request, result.losses, result.names.refs, result.names.declared)
"""


def test_the_same_request_comes_out_the_same_in_every_process() -> None:
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{_SCRIPT}"]
    runs = [
        subprocess.Popen(command, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE) for seed in "12"
    ]

    first, second = (run.communicate()[0] for run in runs)

    assert first
    assert first == second
