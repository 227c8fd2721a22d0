"""The container image, as far as it can be proved without building it: what it copies exists, its command serves."""

import json
import shlex
import socket
from fnmatch import fnmatch

import pytest
from ruamel.yaml import YAML

from cliproxy.config.schema import Config

# As the Go program's users have it: no `host`, and lists that it wrote.
GO_CONFIG = """\
port: 0
auth-dir: "~/.cli-proxy-api"
debug: false
api-keys:
  - "some-client-key"
generative-language-api-key:
  - "AIza-some-key"
quota-exceeded:
  switch-project: true
  switch-preview-model: true
"""


@pytest.fixture
def dockerfile(request) -> list[tuple[str, str]]:
    """Its instructions and their arguments."""
    text = (request.config.rootpath / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in joined.splitlines()]


def _arguments(dockerfile: list[tuple[str, str]], name: str) -> list[str]:
    return [argument for instruction, argument in dockerfile if instruction == name]


def test_what_is_copied_exists_and_is_not_ignored(dockerfile, request):
    root = request.config.rootpath
    ignored, *rules = (root / ".dockerignore").read_text().split()
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]

    sources = [source for copy in _arguments(dockerfile, "COPY") for source in shlex.split(copy)[:-1]]

    assert ignored == "*"
    assert len(sources) >= 3
    for source in sources:
        assert (root / source).exists(), source
        assert any(fnmatch(source, rule) for rule in allowed), source


def test_it_does_not_run_as_root(dockerfile):
    assert _arguments(dockerfile, "USER") == ["1000:1000"]


def test_its_ports_are_the_defaults_of_the_configuration(dockerfile):
    config = Config()
    endpoints = config.endpoints

    (exposed,) = _arguments(dockerfile, "EXPOSE")

    callbacks = [part.callback_port for part in (endpoints.gemini_cli, endpoints.codex, endpoints.claude)]
    assert [int(port) for port in exposed.split()] == [config.port, *callbacks]


def test_its_command_serves_every_interface_from_a_file_of_the_go_program(dockerfile, begin, folder):
    (folder / "config.yaml").write_text(GO_CONFIG)
    (entry,), (command,) = _arguments(dockerfile, "ENTRYPOINT"), _arguments(dockerfile, "CMD")
    python, *arguments = [*json.loads(entry), *json.loads(command)]

    assert (python, arguments[:2]) == ("python", ["-m", "cliproxy"])
    program = begin(*arguments[2:])

    assert program.get("/v1/models", "some-client-key") == 200
    assert program.get("/v1/models") == 401
    with socket.create_connection(("127.0.0.2", program.port), timeout=5):
        pass


def test_compose_mounts_what_the_image_knows(request):
    root = request.config.rootpath
    service = YAML(typ="safe").load((root / "compose.yaml").read_text())["services"]["cli-proxy-api"]

    inside = [volume.partition(":")[2] for volume in service["volumes"]]

    assert inside == ["/CLIProxyAPI/config.yaml", "/root/.cli-proxy-api", "/CLIProxyAPI/logs"]
    text = (root / "Dockerfile").read_text()
    assert all(path in text for path in inside)
    assert service["ports"] == ["127.0.0.1:8317:8317"]
