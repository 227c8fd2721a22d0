"""Tool names: bent to what a dialect allows, and given back as the caller's own."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.canon.events import ArgsDelta, Finish, PartEnd, PartStart, Start, TextDelta
from cliproxy.canon.fit import Fit
from cliproxy.canon.naming import NameRestorer, ToolNames, ToolRef, legal, name_tools
from cliproxy.canon.parts import Text, ToolCall, ToolResult, Turn
from cliproxy.canon.request import Request, Tool, ToolChoice

FLAT = Fit("flat", "openai")
SPACED = Fit("spaced", "openai", has_namespaces=True, has_custom_tools=True)
LETTER_FIRST = Fit("letters", "google", name_charset="A-Za-z0-9_.:-", name_first="A-Za-z_")

NAMES = st.text("ab.:_- \u00e9", min_size=1, max_size=6) | st.sampled_from(
    ("x" * 80, "x" * 81, "mcp__server__" + "t" * 70)
)
TOOLS = st.builds(Tool, NAMES, st.sampled_from(("function", "custom")), namespace=st.sampled_from(("", "ns", "n s")))
TOOL_LISTS = st.lists(TOOLS, max_size=6, unique_by=lambda tool: (tool.namespace, tool.name))


def named(*tools: Tool, fit: Fit = FLAT, **fields) -> tuple[list[str], ToolNames]:
    request, names = name_tools(Request("m", tools=tools, **fields), fit)
    return [tool.name for tool in request.tools], names


def restored(names: ToolNames, name: str, namespace: str = "") -> PartStart:
    return NameRestorer(names).push([PartStart(0, "call", "c", name, namespace)])[0]


# ---- forwards -------------------------------------------------------------------------------------------------------


def test_names_that_fit_stay_as_they_are() -> None:
    request = Request("m", tools=(Tool("get_weather"), Tool("a-b")))

    assert name_tools(request, FLAT) == (request, ToolNames({}, ("get_weather", "a-b")))


@pytest.mark.parametrize(
    ("name", "fit", "start"),
    [
        ("a.b", FLAT, "a_b_"),
        ("caf\u00e9", FLAT, "caf__"),
        ("9lives", LETTER_FIRST, "_9lives_"),
        ("a.b:c", LETTER_FIRST, "a.b:c"),
        ("x" * 200, FLAT, "x" * 55 + "_"),
        ("mcp__server__" + "t" * 30 + "s" * 30, FLAT, "mcp__" + "t" * 30),
        ("", FLAT, "_"),
    ],
)
def test_a_bad_name_keeps_what_tells_it_and_gets_a_hash(name: str, fit: Fit, start: str) -> None:
    wire = legal(name, fit.name_charset, fit.name_length, fit.name_first)

    assert wire.startswith(start)
    assert len(wire) <= 64
    assert legal(wire, fit.name_charset, fit.name_length, fit.name_first) == wire


def test_names_that_differ_only_in_forbidden_letters_stay_apart() -> None:
    wires, _ = named(Tool("a.b"), Tool("a:b"), Tool("a_b"))

    assert len(set(wires)) == 3
    assert wires[2] == "a_b"


def test_a_name_does_not_depend_on_the_tools_beside_it() -> None:
    alone, _ = named(Tool("a.b"))
    beside, _ = named(Tool("c"), Tool("a:b"), Tool("a.b"), Tool("a_b"))

    assert beside[2] == alone[0]


def test_a_name_that_is_anothers_wire_form_stays_and_the_other_moves() -> None:
    (wire,), _ = named(Tool("a.b"))

    for tools in ((Tool("a.b"), Tool(wire)), (Tool(wire), Tool("a.b"))):
        wires, names = named(*tools)
        assert len(set(wires)) == 2
        assert wires[tools.index(Tool(wire))] == wire
        assert restored(names, wire).name == wire
        assert [restored(names, name).name for name in wires] == [tool.name for tool in tools]


def test_history_choice_and_results_follow_the_tools() -> None:
    turns = (
        Turn("assistant", (Text("x"), ToolCall("c", "a.b", "{}"), ToolCall("d", "gone.now", "{}"))),
        Turn("user", (ToolResult("c", name="a.b"), ToolResult("d", name="gone.now"))),
    )

    request, names = name_tools(
        Request("m", tools=(Tool("a.b"),), turns=turns, tool_choice=ToolChoice("one", ("a.b",))), FLAT
    )

    wire = request.tools[0].name
    gone = request.turns[0].parts[2].name
    assert request.tool_choice == ToolChoice("one", (wire,))
    assert (
        [part.name for part in request.turns[0].parts[1:]]
        == [part.name for part in request.turns[1].parts]
        == [wire, gone]
    )
    assert re.fullmatch("[A-Za-z0-9_-]{1,64}", gone)
    assert restored(names, gone).name == "gone.now"


def test_opaque_tools_keep_their_names() -> None:
    tool = Tool("web search", "opaque", dialect="flat", data="{}")

    assert named(tool, Tool("a.b"))[0][0] == "web search"


# ---- namespaces -----------------------------------------------------------------------------------------------------


def test_namespaces_are_flattened_and_come_back_by_lookup() -> None:
    tools = (Tool("read", namespace="fs"), Tool("fs__list", namespace="fs"), Tool("read"), Tool("a__b", namespace="x"))

    wires, names = named(*tools)

    assert wires == ["fs__read", "fs__list", "read", "x__a__b"]
    back = [restored(names, wire) for wire in wires]
    assert [(start.namespace, start.name) for start in back] == [(tool.namespace, tool.name) for tool in tools]


def test_a_flattened_name_never_meets_a_plain_one() -> None:
    tools = (Tool("read", namespace="fs"), Tool("fs__read"), Tool("fs__read", namespace="fs"))

    wires, names = named(*tools)

    assert len(set(wires)) == 3
    assert wires[1] == "fs__read"
    assert [(ref.namespace, ref.name) for ref in (restored(names, wire) for wire in wires)] == [
        (tool.namespace, tool.name) for tool in tools
    ]


def test_native_namespaces_stay() -> None:
    tools = (
        Tool("read", namespace="a"),
        Tool("read", namespace="b"),
        Tool("x.y", namespace="a"),
        Tool("x.y", namespace="b"),
    )

    wires, names = named(*tools, fit=SPACED)

    assert wires[:2] == ["read", "read"]
    assert restored(names, wires[3], "b") == PartStart(0, "call", "c", "x.y", "b")


# ---- backwards ------------------------------------------------------------------------------------------------------


def test_only_names_that_were_changed_are_changed_back() -> None:
    _, names = named(Tool("a.b"), Tool("c"))

    assert restored(names, "c").name == "c"
    assert restored(names, "never_heard_of").name == "never_heard_of"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("Get_Weather", "get_weather"),
        ("GET_WEATHER", "get_weather"),
        ("default_api:get_weather", "get_weather"),
        ("default_api.get_weather", "get_weather"),
        ("default_api:unknown", "default_api:unknown"),
        ("default_api:Get_Weather", "default_api:Get_Weather"),
        ("weather", "weather"),
        ("run", "run"),
        ("RUN", "RUN"),
        ("default_api.kept", "default_api.kept"),
    ],
)
def test_a_name_said_nearly_right_is_the_one_tool_that_it_can_mean(said: str, meant: str) -> None:
    tools = (Tool("get_weather"), Tool("run"), Tool("Run"), Tool("kept"), Tool("default_api.kept"))

    _, names = named(*tools, fit=LETTER_FIRST)

    assert restored(names, said).name == meant


def test_a_near_miss_of_a_wire_form_comes_back_as_the_callers_name() -> None:
    (wire,), names = named(Tool("Get.Weather"))

    assert restored(names, wire.upper()).name == "Get.Weather"


def test_names_matter_only_when_there_are_tools() -> None:
    assert not ToolNames({})
    assert ToolNames({}, ("f",))
    assert ToolNames({"x": ToolRef("y")})


def test_a_batch_without_a_call_passes_as_it_is() -> None:
    batch = [TextDelta(0, "a")]

    assert NameRestorer(ToolNames({}, ("f",))).push(batch) is batch


def test_emulated_tools_are_restored_however_many_run_at_once() -> None:
    names = ToolNames({"x": ToolRef("exec", "ns", is_custom=True)}, ("x", "f"))
    events = [
        Start(),
        PartStart(0, "call", "a", "x"),
        PartStart(1, "call", "b", "f"),
        ArgsDelta(0, '{"inp'),
        ArgsDelta(1, "{}"),
        ArgsDelta(0, 'ut":"ls"}'),
        PartEnd(1),
        PartEnd(0),
        Finish("tool_calls"),
    ]
    restorer = NameRestorer(names)

    out = [event for one in events for event in restorer.push([one])]

    assert out == [
        Start(),
        PartStart(0, "call", "a", "exec", "ns", is_custom=True),
        PartStart(1, "call", "b", "f"),
        ArgsDelta(1, "{}"),
        PartEnd(1),
        ArgsDelta(0, "ls"),
        PartEnd(0),
        Finish("tool_calls"),
    ]


# ---- laws -----------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(TOOL_LISTS, st.sampled_from((FLAT, LETTER_FIRST, SPACED)), st.randoms(use_true_random=False))
def test_any_tools_get_legal_names_of_their_own_in_any_order_and_come_back(tools, fit, random) -> None:
    wires, names = named(*tools, fit=fit)

    places = [(tool.namespace if fit.has_namespaces else "", wire) for tool, wire in zip(tools, wires, strict=True)]
    assert len(set(places)) == len(places)
    first = f"[{fit.name_first}]" if fit.name_first else ""
    assert all(re.fullmatch(f"(?={first})[{fit.name_charset}]{{1,{fit.name_length}}}", wire) for wire in wires)
    for tool, (place, wire) in zip(tools, places, strict=True):
        start = restored(names, wire, place)
        assert (start.name, start.namespace) == (tool.name, tool.namespace)
    shuffled = random.sample(tools, len(tools))
    again, _ = named(*shuffled, fit=fit)
    assert dict(zip(map(id, shuffled), again, strict=True)) == dict(zip(map(id, tools), wires, strict=True))
