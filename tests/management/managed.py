"""A gateway under management: started from a configuration text in a folder of its own, and asked over real sockets."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from serving import Serving

BASE = "/v0/management"
KEY = "mk"
HASHED = "$2b$04$zbLohCN35vQxZiv3tTaLn.fer171RKT1pF00pSLeGvJR6Lc8bKhUG"
"""The same key as a hash that is cheap to check: hashing it anew would be most of what starting a gateway costs."""

FIXTURE = """\
# head comment
port: 0

remote-management:
  allow-remote: false
  secret-key: "mk" # key note
auth-dir: "AUTH_DIR"
debug: false
proxy-url: ""
request-retry: 3
quota-exceeded:
  switch-project: true # qp
  switch-preview-model: true
unknown-section: {keep: [1, 2]}

api-keys: # client keys
  - "k1" # first
  # before k2
  - "k2" # second
  - k3
generative-language-api-key:
  - "gemini-key-0001"
claude-api-key:
  - api-key: "ca" # ca note
    base-url: "https://a.example"
    custom: 1
  - api-key: "cb"
codex-api-key:
openai-compatibility: []
# tail comment
"""
"""The file that the conformance cases start from, but for its port and its folder of auth files."""


class Reply:
    def __init__(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.status = status
        self.headers = headers
        self.content = content

    @property
    def json(self) -> object:
        return json.loads(self.content)

    @property
    def told(self) -> tuple[int, object]:
        """Status and parsed body, for one comparison."""
        return self.status, self.json

    def __repr__(self) -> str:
        return f"Reply({self.status}, {self.content[:300]!r})"


PLAIN_KEY = re.compile(r'(secret-key: )"?mk"?(?=[\s},]|$)')
OK = (200, {"status": "ok"})


def refused(status: int, text: str) -> tuple[int, object]:
    return status, {"error": text}


class Managed:
    """`text` None starts from the fixture; the management key in it is hashed already unless `is_hashed` says no. Paths
    are below the base unless they start with `/v1` or `root:`. `environment` is that of the gateway's process, `mode` that of the file when it starts; `path_type` lets
    its path behave otherwise."""

    def __init__(
        self,
        folder: Path,
        text: str | None = None,
        *,
        edge: str = "fast",
        host: str = "127.0.0.1",
        environment: Mapping[str, str] = MappingProxyType({}),
        mode: int = 0o600,
        path_type: type[Path] = Path,
        is_hashed: bool = True,
    ) -> None:
        self.auth_dir = folder / "cpa-auth"
        text = FIXTURE if text is None else text
        if is_hashed:
            text = PLAIN_KEY.sub(rf'\1"{HASHED}"', text)
        self.started_with = text.replace("AUTH_DIR", str(self.auth_dir))
        self.serving = Serving(
            self.started_with, edge=edge, folder=folder, environment=environment, mode=mode, path_type=path_type
        )
        self.host = host

    @property
    def path(self) -> Path:
        assert self.serving.path is not None
        return self.serving.path

    @property
    def file(self) -> str:
        return self.path.read_text()

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
        host: str | None = None,
    ) -> Reply:
        """`body` is sent as JSON, `raw` as it is; `headers` None carries the management key."""
        target = path.removeprefix("root:") if path.startswith(("/v1", "root:")) else BASE + path
        content = raw if raw is not None else None if body is None else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {KEY}"} if headers is None else dict(headers)
        connection = http.client.HTTPConnection(host or self.host, self.serving.port, timeout=20)
        try:
            connection.request(method, target, content, sent)
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **options: object) -> Reply:
        return self.ask("GET", path, **options)  # type: ignore[arg-type]

    def put(self, path: str, body: object = None, **options: object) -> Reply:
        return self.ask("PUT", path, body, **options)  # type: ignore[arg-type]

    def patch(self, path: str, body: object = None, **options: object) -> Reply:
        return self.ask("PATCH", path, body, **options)  # type: ignore[arg-type]

    def post(self, path: str, body: object = None, **options: object) -> Reply:
        return self.ask("POST", path, body, **options)  # type: ignore[arg-type]

    def delete(self, path: str, body: object = None, **options: object) -> Reply:
        return self.ask("DELETE", path, body, **options)  # type: ignore[arg-type]

    def stop(self) -> None:
        self.serving.stop()

    def let_go(self) -> None:
        self.serving.let_go()


def soon(holds: Callable[[], bool], seconds: float = 3.0) -> bool:
    """Whether something comes true within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return holds()


def own_address() -> str | None:
    """An address of this machine that is not loopback, to be a remote caller from; None when there is none. Nothing
    is sent: connecting a datagram socket only chooses the way."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address
