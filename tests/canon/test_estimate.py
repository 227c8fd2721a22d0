"""The local estimate of tokens: everything that is sent counts."""

import pytest

from cliproxy.canon.estimate import estimate
from cliproxy.canon.parts import (
    Audio,
    Document,
    Image,
    Media,
    Opaque,
    Reasoning,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from cliproxy.canon.request import Request, Tool

PROSE = "The quick brown fox jumps over the lazy dog. " * 40


def of(*parts) -> int:
    return estimate(Request("m", turns=(Turn("user", parts),)))


def test_an_empty_request_has_one_token() -> None:
    assert estimate(Request("m")) == 1


def test_prose_runs_at_about_four_letters_a_token_and_other_scripts_denser() -> None:
    assert 0.85 * 400 < of(Text(PROSE)) < 1.2 * 460
    assert of(Text("日本語のテキスト" * 20)) > 100


@pytest.mark.parametrize(
    "part",
    [
        Text(PROSE),
        Refusal(PROSE),
        Reasoning((PROSE,)),
        ToolCall("a", "f", PROSE),
        ToolResult("a", (Text(PROSE),)),
        Document(text=PROSE),
        Document(Media("application/pdf", data="A" * 20_000)),
        Audio(Media("audio/wav", data="A" * 20_000)),
        Image(Media(url="https://a.example/p.png")),
        Opaque("gemini", "thing", PROSE),
    ],
    ids=lambda part: type(part).__name__,
)
def test_every_kind_of_part_counts(part) -> None:
    assert of(part) > 400


def test_instructions_and_tools_count() -> None:
    tool = Tool("f", description=PROSE, schema='{"type":"object"}')

    assert estimate(Request("m", system=(Text(PROSE),), tools=(tool,))) > 850
