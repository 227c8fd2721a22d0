"""Reasoning controls: suffixes, levels, budgets, and what each class of model makes of them."""

import pytest

from cliproxy.canon.fit import Capability
from cliproxy.canon.request import Thinking
from cliproxy.canon.thinking import LEVELS, budget_of, level_of, nearest_level, resolved, split_effort, split_suffix

OFF, AUTO = Thinking("off"), Thinking("auto")


def level(word: str) -> Thinking:
    return Thinking("level", word)


def budget(tokens: int) -> Thinking:
    return Thinking("budget", budget=tokens)


@pytest.mark.parametrize(
    ("name", "base", "thinking"),
    [
        ("m(high)", "m", level("high")),
        ("m( HIGH )", "m", level("high")),
        ("m(xhigh)", "m", level("xhigh")),
        ("m(max)", "m", level("max")),
        ("m(8192)", "m", budget(8192)),
        ("m(0)", "m", OFF),
        ("m(none)", "m", OFF),
        ("m(auto)", "m", AUTO),
        ("m(-1)", "m", AUTO),
        ("a/b (x) (low)", "a/b (x)", level("low")),
        ("m(-2)", "m(-2)", None),
        ("m(1.5)", "m(1.5)", None),
        ("m(9999999999)", "m(9999999999)", None),
        ("m(\u0663)", "m(\u0663)", None),
        ("m(huge)", "m(huge)", None),
        ("m()", "m()", None),
        ("(high)", "(high)", None),
        ("m(high) ", "m(high) ", None),
        ("m", "m", None),
        ("", "", None),
    ],
)
def test_a_suffix_is_taken_off_only_when_it_is_one(name: str, base: str, thinking: Thinking | None) -> None:
    assert split_suffix(name) == (base, thinking)


@pytest.mark.parametrize(
    ("name", "base", "thinking"),
    [
        ("gpt-5-high", "gpt-5", level("high")),
        ("gpt-5-none", "gpt-5", OFF),
        ("gpt-5", "gpt-5", None),
        ("-high", "-high", None),
        ("high", "high", None),
    ],
)
def test_an_effort_at_the_tail_of_a_name_is_taken_off(name: str, base: str, thinking: Thinking | None) -> None:
    assert split_effort(name) == (base, thinking)


@pytest.mark.parametrize(
    ("word", "tokens"),
    [
        ("none", 0),
        ("minimal", 512),
        ("low", 1024),
        ("medium", 8192),
        ("high", 24576),
        ("xhigh", 32768),
        ("max", 128000),
    ],
)
def test_levels_have_budgets(word: str, tokens: int) -> None:
    assert budget_of(word) == tokens


def test_budgets_have_levels() -> None:
    edges = {-1: "medium", 0: "none", 1: "minimal", 512: "minimal", 513: "low", 1024: "low", 1025: "medium"}
    edges |= {8192: "medium", 8193: "high", 24576: "high", 24577: "xhigh", 10**6: "xhigh"}

    assert {tokens: level_of(tokens) for tokens in edges} == edges


@pytest.mark.parametrize(
    ("word", "levels", "nearest"),
    [
        ("high", ("low", "high"), "high"),
        ("medium", ("low", "high"), "low"),
        ("minimal", ("low", "high"), "low"),
        ("max", ("low", "high"), "high"),
        ("xhigh", ("low", "medium", "high", "max"), "high"),
        ("medium", (), "medium"),
        ("odd", ("low",), "odd"),
        ("low", ("turbo",), "low"),
    ],
)
def test_the_nearest_listed_level_is_taken_and_of_two_the_lower(
    word: str, levels: tuple[str, ...], nearest: str
) -> None:
    assert nearest_level(word, levels) == nearest


MODELS = {
    "unknown": Capability(),
    "none": Capability(thinking="none"),
    "budget": Capability(thinking="budget", budgets=(1024, 32_000)),
    "always": Capability(thinking="budget", budgets=(128, 32_768), can_disable=False),
    "level": Capability(thinking="level", levels=("low", "high")),
    "always level": Capability(thinking="level", levels=("minimal", "high"), can_disable=False),
    "hybrid": Capability(thinking="hybrid", budgets=(1024, 128_000), levels=("low", "medium", "high", "max")),
}
# Each row: what is asked; then per model what comes of it, and "=" where that is no loss.
GOLDEN: list[tuple[Thinking, dict[str, str]]] = [
    (Thinking(), dict.fromkeys(MODELS, "- =")),
    (
        OFF,
        {
            "unknown": "off =",
            "none": "- =",
            "budget": "off =",
            "always": "512",
            "level": "off =",
            "always level": "minimal",
            "hybrid": "off =",
        },
    ),
    (AUTO, {**dict.fromkeys(MODELS, "auto ="), "none": "-"}),
    (
        level("minimal"),
        {
            "unknown": "minimal =",
            "none": "-",
            "budget": "1024",
            "always": "512",
            "level": "low",
            "always level": "minimal =",
            "hybrid": "low",
        },
    ),
    (
        level("high"),
        {
            "unknown": "high =",
            "none": "-",
            "budget": "24576",
            "always": "24576",
            "level": "high =",
            "always level": "high =",
            "hybrid": "high =",
        },
    ),
    (
        level("max"),
        {
            "unknown": "max =",
            "none": "-",
            "budget": "32000",
            "always": "32768",
            "level": "high",
            "always level": "high",
            "hybrid": "max =",
        },
    ),
    (
        budget(100),
        {
            "unknown": "100 =",
            "none": "-",
            "budget": "1024",
            "always": "128",
            "level": "low",
            "always level": "minimal",
            "hybrid": "1024",
        },
    ),
    (
        budget(8192),
        {
            "unknown": "8192 =",
            "none": "-",
            "budget": "8192 =",
            "always": "8192 =",
            "level": "low",
            "always level": "high",
            "hybrid": "8192 =",
        },
    ),
    (
        budget(10**6),
        {
            "unknown": "1000000 =",
            "none": "-",
            "budget": "32000",
            "always": "32768",
            "level": "high",
            "always level": "high",
            "hybrid": "128000",
        },
    ),
]


def told(thinking: Thinking) -> str:
    words = {None: "-", "off": "off", "auto": "auto", "level": thinking.level, "budget": str(thinking.budget)}
    return words[thinking.mode]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("asked", "row"), GOLDEN, ids=lambda value: told(value) if isinstance(value, Thinking) else "")
def test_each_class_of_model_gets_its_own_words(asked: Thinking, row: dict[str, str], model: str) -> None:
    thinking, losses = resolved(asked, MODELS[model])

    assert told(thinking) + ("" if losses else " =") == row[model]
    assert {loss.path for loss in losses} <= {"thinking"}
    assert resolved(thinking, MODELS[model]) == (thinking, ())


@pytest.mark.parametrize("model", MODELS)
def test_no_tokens_are_off_and_negative_ones_auto(model: str) -> None:
    assert told(resolved(budget(0), MODELS[model])[0]) == told(resolved(OFF, MODELS[model])[0])
    assert told(resolved(level("none"), MODELS[model])[0]) == told(resolved(OFF, MODELS[model])[0])
    assert told(resolved(budget(-1), MODELS[model])[0]) == told(resolved(AUTO, MODELS[model])[0])


def test_whether_reasoning_is_shown_stays_as_asked() -> None:
    for shown in (None, True, False):
        thinking, _ = resolved(Thinking("level", "high", is_shown=shown, summary="auto"), MODELS["budget"])
        assert (thinking.is_shown, thinking.summary) == (shown, "auto")


def test_levels_rise() -> None:
    assert [budget_of(word) for word in LEVELS] == sorted(map(budget_of, LEVELS))
