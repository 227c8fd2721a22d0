"""A blocking HTTP/1.1 caller on a bare socket, which may be as rude as a test needs."""

import json
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

SECONDS = 8.0
KEY_LINE = "authorization: Bearer test-key"


@dataclass
class Answer:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str:
        """The value of a header that must not come twice, "" when absent."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else ""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def frames(self) -> list[str]:
        return [frame for frame in self.body.decode().split("\n\n") if frame.strip()]


class Caller:
    """One connection. What the server sent and nobody read waits in `seen`."""

    def __init__(self, port: int, *, receive_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(SECONDS)
        self.socket.connect(("127.0.0.1", port))
        self.seen = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def dribble(self, data: bytes, *, pause: float, pieces: int) -> None:
        step = max(1, len(data) // pieces)
        for at in range(0, len(data), step):
            self.send(data[at : at + step])
            time.sleep(pause)

    def ask(self, method: str, target: str, *lines: str, body: Any = None, key: bool = True) -> Answer:
        """A request on this connection, and its answer."""
        self.send(request(method, target, *lines, body=body, key=key))
        return self.answer(method)

    def answer(self, method: str = "POST") -> Answer:
        """The next answer, interim ones left out."""
        while (answer := self.head()).status < 200:
            pass
        if method == "HEAD" or answer.status in (204, 304):
            return answer
        if answer.header("transfer-encoding") == "chunked":
            while chunk := self.chunk():
                answer.body += chunk
        elif length := answer.header("content-length"):
            answer.body = self.take(int(length))
        else:
            answer.body = self.rest()
        return answer

    def head(self) -> Answer:
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")[:-2]
        pairs = [line.partition(": ") for line in lines]
        return Answer(int(first.split()[1]), [(name, value) for name, _, value in pairs])

    def chunk(self) -> bytes:
        """The next chunk of a chunked body, b"" for the last."""
        size = int(self.until(b"\r\n"), 16)
        return self.take(size + 2)[:-2]

    def until(self, mark: bytes) -> bytes:
        while mark not in self.seen:
            self._more()
        return self.take(self.seen.index(mark) + len(mark))

    def take(self, size: int) -> bytes:
        while len(self.seen) < size:
            self._more()
        taken, self.seen = self.seen[:size], self.seen[size:]
        return taken

    def rest(self) -> bytes:
        """Everything until the server closes."""
        pieces = [self.seen]
        self.seen = b""
        while piece := self.socket.recv(1 << 20):
            pieces.append(piece)
        return b"".join(pieces)

    def remains(self) -> bytes:
        """Like `rest`, also of a connection that the server resets."""
        pieces: list[bytes] = []
        try:
            while piece := self.socket.recv(1 << 20):
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return self.seen + b"".join(pieces)

    @property
    def is_closed_by_server(self) -> bool:
        """Waits for the server's end; false when bytes come in its place, or nothing within a second."""
        self.socket.settimeout(1.0)
        try:
            return self.seen == b"" and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        finally:
            self.socket.settimeout(SECONDS)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Leave at once, as a program that is killed does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _more(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise EOFError(f"the server closed after {self.seen[:200]!r}")
        self.seen += data


def request(method: str, target: str, *lines: str, body: Any = None, key: bool = True, version: str = "1.1") -> bytes:
    """The bytes of a request. A body that is no bytes becomes JSON; `lines` are header lines and win over ours."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    named = {line.partition(":")[0].lower() for line in lines}
    ours = ["host: 127.0.0.1", *([KEY_LINE] if key else [])]
    if body is not None:
        ours += ["content-type: application/json"]
        if "transfer-encoding" not in named:
            ours += [f"content-length: {len(data)}"]
    kept = [line for line in ours if line.partition(":")[0] not in named]
    head = "\r\n".join([f"{method} {target} HTTP/{version}", *kept, *lines, "", ""])
    return head.encode("latin-1") + data


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))
