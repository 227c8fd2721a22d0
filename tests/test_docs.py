"""The documentation, as far as a program can tell whether it is true."""

import http.client
import json
import re
import shlex
from pathlib import Path

import pytest
from managed import KEY as MANAGEMENT_KEY
from managed import Managed
from ruamel.yaml import YAML

from cliproxy.cli.main import cli
from cliproxy.config.document import read

KEY = "test-key"
ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("changes/*.md"),
        ROOT / "benchmarks/README.md",
    )
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = ("added", "changed", "deprecated", "removed", "fixed", "security")


def _blocks(document: str, language: str) -> list[str]:
    return [text for found, text in BLOCK.findall((ROOT / document).read_text()) if found == language]


def _curls(document: str) -> list[str]:
    """Each command of a document's shell blocks, on one line."""
    joined = "\n".join(_blocks(document, "sh")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("curl ")]


ASKING = [command for command in _curls("README.md") if "/v0/management" not in command]
MANAGING = [command for command in _curls("README.md") if "/v0/management" in command]


def _anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_relative_link_leads_somewhere(document):
    text = (ROOT / document).read_text()

    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        if not target.exists() or (anchor and anchor not in _anchors(target.read_text())):
            broken.append(link)

    assert broken == []


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"(?:^    |`|\$ )make ([a-z]+)", (ROOT / document).read_text(), re.MULTILINE)
    }

    assert {"demo", "test"} <= named
    assert named <= targets


def test_every_command_and_option_that_the_readme_shows_exists():
    with cli.make_context("cli-proxy-api", ["serve"]) as context:
        commands = {name: cli.get_command(context, name) for name in cli.list_commands(context)}

    shown = re.findall(r"^\| `cli-proxy-api \[?([a-z]+)\]?(.*?)` \|", README, re.MULTILINE)

    assert {name for name, _ in shown} == set(commands)
    for name, rest in shown:
        options = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z]+", rest)) <= options


@pytest.mark.flow
@pytest.mark.parametrize("example", ASKING)
def test_every_curl_example_is_answered(example, shared):
    command, address, *rest = shlex.split(example.replace("$KEY", KEY))
    options = list(zip(rest[::2], rest[1::2], strict=True))
    headers = dict(value.split(": ") for name, value in options if name == "-H")
    (body,) = [value for name, value in options if name == "-d"]

    assert (command, address[:22]) == ("curl", "http://127.0.0.1:8317/")
    connection = http.client.HTTPConnection("127.0.0.1", shared.port, timeout=10)
    connection.request("POST", address[21:], body, headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()

    assert KEY in str(headers)
    assert (answer.status, b"echo: hi" in said) == (200, True), said


@pytest.mark.flow
def test_the_management_examples_do_what_is_said(tmp_path):
    managed = Managed(tmp_path)
    try:
        for example in MANAGING:
            _, address, *rest = shlex.split(example.replace("$MANAGEMENT_KEY", MANAGEMENT_KEY))
            options = dict(zip(rest[::2], rest[1::2], strict=True))
            headers = dict([options["-H"].split(": ")])
            method, body = options.get("-X", "GET"), options.get("-d", "").encode()
            path = address.removeprefix("http://127.0.0.1:8317")
            assert managed.ask(method, f"root:{path}", headers=headers, raw=body).status == 200
        assert '"k2" # second\n  - k3\n  - another-key-for-a-tool' in managed.file
    finally:
        managed.stop()


def test_there_is_a_curl_example_for_each_dialect():
    addresses = [shlex.split(example)[1] for example in ASKING]

    paths = [address.removeprefix("http://127.0.0.1:8317").partition(":")[0] for address in addresses]
    assert paths == ["/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1beta/models/gemini-2.5-flash"]


def test_the_demo_transcript_has_every_scene():
    (transcript,) = _blocks("README.md", "text")
    source = (ROOT / "src/cliproxy/cli/demo.py").read_text()

    titles = re.findall(r"Scene\(\n\s+\"(.*?)\"", source)

    assert len(titles) == 4
    assert [line for line in transcript.splitlines() if line in titles] == titles


@pytest.mark.parametrize("text", _blocks("README.md", "yaml"))
def test_every_configuration_in_the_readme_is_valid(text):
    assert read(text).warnings == ()


@pytest.mark.parametrize("text", _blocks("docs/clients.md", "json"))
def test_every_settings_file_in_clients_is_json(text):
    assert json.loads(text)


def test_every_decision_is_listed_and_says_what_a_decision_must():
    pages = {path.name: path.read_text() for path in (ROOT / "docs/decisions").glob("*.md")}
    index = pages.pop("README.md")

    assert {link for link in LINK.findall(index) if "/" not in link} == set(pages)
    for name, text in pages.items():
        for part in ("**Context.**", "**Choice.**", "**Price.**", "**When to revisit.**"):
            assert part in text, name


def test_every_fragment_has_a_kind_of_the_changelog():
    fragments = [path.name for path in (ROOT / "changes").iterdir() if path.name != "README.md"]

    assert all(re.fullmatch(rf"[a-z0-9-]+\.({'|'.join(KINDS)})\.md", name) for name in fragments), fragments


def test_the_compose_file_is_yaml():
    assert YAML(typ="safe").load((ROOT / "compose.yaml").read_text())["services"]
