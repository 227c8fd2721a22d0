"""The deterministic answer: what a request asks for, in no vendor's words, and the plan of what to say to it.

A user text of the form `call NAME {json}` becomes a call, several lines several calls, `then call ...` a call after
text; `call NAME <<free text>>` serves custom tools and functions with one string property called `input`. Everything
else is echoed. Nothing here depends on the clock, on chance or on earlier requests.
"""

import json
import re
from typing import Literal

import msgspec

from cliproxy.simulator.exchange import Json
from cliproxy.simulator.schemas import minimal_instance, takes_single_input

Finish = Literal["stop", "stop_sequence", "length", "calls"]

_CALL = re.compile(r"^(?:then )?call (?P<name>[\w.:-]+) (?P<free><<)?", re.MULTILINE)
_PIECE = re.compile(r"\s*\S+\s*\Z|\s*\S+")
_FRAGMENT_CHARS = 12
_JSON = json.JSONDecoder()


class Offer(msgspec.Struct, frozen=True):
    """A tool the caller offered; `is_custom` tools take free text in place of JSON."""

    name: str
    schema: Json = None
    is_custom: bool = False
    namespace: str | None = None


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What the request asks. `text`, `said` and `media` come from the turns after the last assistant turn.

    `topic` is the last user text of the whole conversation; `said` holds (tool name or id, result text); `media` e.g. `image/png 68 bytes`; `prompt` every text that counts as input.
    `forced` names the tool the caller insists on, `*` any; `schema` None means free text, `{}` any JSON object.
    """

    text: str | None = None
    topic: str = ""
    said: tuple[tuple[str, str], ...] = ()
    media: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    offers: tuple[Offer, ...] = ()
    forced: str | None = None
    is_parallel: bool = True
    thinks: bool = False
    schema: Json = None
    limit: int | None = None
    stops: tuple[str, ...] = ()
    prompt: tuple[str, ...] = ()


class Call(msgspec.Struct, frozen=True):
    """A planned call; `arguments` is the text exactly as the user wrote it."""

    name: str
    arguments: str
    is_custom: bool = False
    namespace: str | None = None

    def fragments(self) -> list[str]:
        return fragments(self.arguments)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to say; counts are words, `output_words` includes `thought_words`."""

    thought: str
    text: str
    calls: tuple[Call, ...]
    finish: Finish
    stop: str | None
    input_words: int
    output_words: int
    thought_words: int


def plan(ask: Ask) -> Plan:
    text, calls = _script(ask)
    if ask.schema is not None and not calls:
        text = msgspec.json.encode(minimal_instance(ask.schema, text)).decode()
    text, stop = _cut_at_stop(text, ask.stops)
    finish: Finish = "stop_sequence" if stop is not None else "calls" if calls else "stop"
    words = pieces(text)
    if ask.limit is not None and len(words) > ask.limit:
        text, finish, stop = "".join(words[: ask.limit]), "length", None
    if finish in ("length", "stop_sequence"):
        calls = ()
    thought = f"thinking about: {ask.topic}" if ask.thinks else ""
    spoken = _count(text, *(call.name + " " + call.arguments for call in calls))
    return Plan(
        thought=thought,
        text=text,
        calls=calls,
        finish=finish,
        stop=stop,
        input_words=input_words(ask),
        output_words=spoken + _count(thought),
        thought_words=_count(thought),
    )


def input_words(ask: Ask) -> int:
    """The number that usage and the count endpoints report; never 0, as no vendor reports 0."""
    return max(1, _count(*ask.prompt))


def pieces(text: str) -> list[str]:
    """The text in word-sized pieces; joined again they are the text."""
    return _PIECE.findall(text)


def fragments(text: str) -> list[str]:
    """Call arguments as a vendor streams them: several short cuts with no regard for JSON."""
    return [text[at : at + _FRAGMENT_CHARS] for at in range(0, len(text), _FRAGMENT_CHARS)]


def _script(ask: Ask) -> tuple[str, tuple[Call, ...]]:
    text, calls = _read_calls(ask)
    forced = _forced_call(ask, calls)
    if forced:
        return "", forced
    if not ask.is_parallel:
        calls = calls[:1]
    if text == "show system":
        return "\n\n".join(ask.system), calls
    said = [f"tool {name} said: {result}" for name, result in ask.said]
    echo = [f"echo: {text}"] if text or not (said or calls) else []
    media = "".join(f" [{medium}]" for medium in ask.media) if said or echo else ""
    return "; ".join(said + echo) + media, calls


def _read_calls(ask: Ask) -> tuple[str, tuple[Call, ...]]:
    """Take the calls out of the user's text; a line that is no valid call of an offered tool stays text."""
    source = ask.text or ""
    offers = {offer.name: offer for offer in ask.offers}
    rest: list[str] = []
    calls: list[Call] = []
    at = 0
    while (match := _CALL.search(source, at)) is not None:
        offer = offers.get(match["name"])
        arguments, end = _read_arguments(source, match.end(), offer, is_free=match["free"] is not None)
        if offer is None or arguments is None:
            rest.append(source[at : match.end()])
            at = match.end()
            continue
        rest.append(source[at : match.start()])
        calls.append(Call(offer.name, arguments, offer.is_custom, offer.namespace))
        at = end
    rest.append(source[at:])
    return ("".join(rest).strip() if calls else source), tuple(calls)


def _read_arguments(source: str, at: int, offer: Offer | None, *, is_free: bool) -> tuple[str | None, int]:
    if offer is None:
        return None, at
    if is_free:
        end = source.find(">>", at)
        if end < 0 or not (offer.is_custom or takes_single_input(offer.schema)):
            return None, at
        free = source[at:end]
        return (free if offer.is_custom else msgspec.json.encode({"input": free}).decode()), end + 2
    try:
        value, end = _JSON.raw_decode(source, at)
    except ValueError:
        return None, at
    return (source[at:end], end) if isinstance(value, dict) and not offer.is_custom else (None, at)


def _forced_call(ask: Ask, calls: tuple[Call, ...]) -> tuple[Call, ...]:
    """The calls that a forced tool choice leaves; empty when nothing is forced."""
    if ask.forced is None or not ask.offers:
        return ()
    kept = tuple(call for call in calls if ask.forced in ("*", call.name))
    if not kept:
        offer = next((offer for offer in ask.offers if offer.name == ask.forced), ask.offers[0])
        kept = (Call(offer.name, "" if offer.is_custom else "{}", offer.is_custom, offer.namespace),)
    return kept if ask.is_parallel else kept[:1]


def _cut_at_stop(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    found = [(text.find(stop), stop) for stop in stops if stop and stop in text]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop


def _count(*texts: str) -> int:
    return sum(len(text.split()) for text in texts)
