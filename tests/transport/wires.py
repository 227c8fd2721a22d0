"""The other ends of our wires: scripted servers and small proxies on real loopback sockets.

A script is a list of steps for one connection, and reads like a transcript::

    async with Server([READ, OK, READ, b"HTTP/1.1 200 OK\\r\\n", RESET], [READ, OK]) as server: ...

The first connection follows the first list, and so on; at the end of its list a connection is closed.
"""

import asyncio
import base64
import contextlib
import enum
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cliproxy.transport.base import Deadlines
from cliproxy.transport.pool import Pool
from cliproxy.wire.http import HttpRequest, Origin

PATIENT = Deadlines(connect=10.0, head=10.0, idle=10.0)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")


class Step(enum.Enum):
    READ = "read one whole request"
    READ_HEAD = "read the head of a request and leave its body"
    RESET = "cut the connection with RST"
    HALF_CLOSE = "send nothing more, but go on reading"
    HOLD = "do nothing until the other side has gone"


READ, READ_HEAD, RESET, HALF_CLOSE, HOLD = Step


@dataclass(frozen=True)
class Wait:
    """Until `event`, or for `seconds`."""

    seconds: float = 0.0
    event: asyncio.Event | None = None


@dataclass(frozen=True)
class Sliced:
    """Send `data` in pieces of these sizes, over and over, and let the other side read each."""

    data: bytes
    sizes: Sequence[int] = (1,)


@dataclass(frozen=True)
class Flood:
    """Send `unit` again and again, as fast as the other side takes it; `Peer.sent_bytes` tells how far that went."""

    unit: bytes
    times: int


Script = Sequence[bytes | Step | Wait | Sliced | Flood]


class Peer:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.requests: list[bytes] = []
        self.sent_bytes = 0
        self.gone = asyncio.Event()
        """Set when the client was seen to leave, in HOLD or while more was expected of it."""

    async def play(self, script: Script) -> None:
        for step in script:
            match step:
                case bytes():
                    await self._send(step)
                case Wait(seconds, None):
                    await asyncio.sleep(seconds)
                case Wait(_, event):
                    await event.wait()
                case Sliced(data, sizes):
                    await self._send_slices(data, sizes)
                case Flood(unit, times):
                    for _ in range(times):
                        await self._send(unit)
                case Step.READ:
                    self.requests.append(await self.read_request())
                case Step.READ_HEAD:
                    self.requests.append(await self.reader.readuntil(b"\r\n\r\n"))
                case Step.HALF_CLOSE:
                    self.writer.write_eof()
                case Step.HOLD:
                    while await self.reader.read(65536):
                        pass
                    self.gone.set()
                case Step.RESET:
                    self.reset()
                    return

    async def read_request(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return head + await self.reader.readexactly(int(length[1]) if length else 0)

    def reset(self) -> None:
        """Without lingering, closing sends RST. The option is set on a second descriptor of the same socket."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as twin:
            twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def _send(self, data: bytes) -> None:
        if self.writer.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self.writer.write(data)
        await self.writer.drain()
        self.sent_bytes += len(data)

    async def _send_slices(self, data: bytes, sizes: Sequence[int]) -> None:
        at = turn = 0
        while at < len(data):
            size = sizes[turn % len(sizes)]
            await self._send(data[at : at + size])
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            at, turn = at + size, turn + 1


class Listener:
    """A server on loopback whose connections are served by `_serve`; what goes wrong there fails the test."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.port = 0
        self.peers: list[Peer] = []
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[Exception] = []

    async def __aenter__(self) -> "Listener":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for peer in self.peers:
            with contextlib.suppress(AttributeError):  # asyncio, when the transport has closed after a last flush
                peer.writer.transport.abort()
        await asyncio.sleep(0)
        if self._failures:
            raise self._failures[0]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._serve(peer, len(self.peers) - 1)
        except (OSError, asyncio.IncompleteReadError):
            peer.gone.set()
        except Exception as error:  # noqa: BLE001 - shown by `__aexit__`, in the test's own task
            self._failures.append(error)
        except asyncio.CancelledError:
            return
        finally:
            writer.close()

    async def _serve(self, peer: Peer, number: int) -> None:
        raise NotImplementedError


class Server(Listener):
    """Plays `scripts`. More connections than scripts are a failure."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self._scripts = scripts

    async def __aenter__(self) -> "Server":
        await super().__aenter__()
        return self

    def origin(self, proxy: str = "", host: str = "127.0.0.1") -> Origin:
        return Origin("http" if self._tls is None else "https", host, self.port, proxy)

    def request(self, body: bytes = b"{}", target: bytes = b"/v1/x") -> HttpRequest:
        return HttpRequest(b"POST", self.origin(), target, b"authorization: Bearer k\r\n", body)

    async def _serve(self, peer: Peer, number: int) -> None:
        if number >= len(self._scripts):
            raise AssertionError("the client opened more connections than it should")
        await peer.play(self._scripts[number])


class ConnectProxy(Listener):
    """An HTTP proxy that knows CONNECT. All names lead to loopback. `refusal` is sent instead of a tunnel."""

    def __init__(self, *, credentials: str = "", refusal: Script = (), tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self._credentials = credentials
        self._refusal = refusal

    async def __aenter__(self) -> "ConnectProxy":
        await super().__aenter__()
        return self

    async def _serve(self, peer: Peer, number: int) -> None:
        head = await peer.reader.readuntil(b"\r\n\r\n")
        peer.requests.append(head)
        wanted = base64.b64encode(self._credentials.encode())
        if self._refusal:
            await peer.play(self._refusal)
            return
        if self._credentials and b"\r\nproxy-authorization: Basic " + wanted + b"\r\n" not in head:
            await peer.play([b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"])
            return
        port = int(head.split(b" ", 2)[1].rpartition(b":")[2])
        await peer.play([b"HTTP/1.1 200 Connection established\r\n\r\n"])
        await _relay(peer, port)


class SocksProxy(Listener):
    """A SOCKS5 proxy (RFC 1928, 1929). `asked` are the hosts as they were sent; all of them lead to loopback."""

    def __init__(self, *, user: bytes = b"", password: bytes = b"", refusal: int = 0) -> None:
        super().__init__()
        self.asked: list[tuple[int, bytes]] = []
        self._user = user
        self._password = password
        self._refusal = refusal

    async def __aenter__(self) -> "SocksProxy":
        await super().__aenter__()
        return self

    async def _serve(self, peer: Peer, number: int) -> None:
        reader, writer = peer.reader, peer.writer
        version, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        method = 2 if self._user else 0
        assert version == 5
        if method not in methods:
            writer.write(b"\x05\xff")
            return
        writer.write(bytes((5, method)))
        if method == 2 and not await self._admits(reader, writer):
            return
        _, _, _, kind = await reader.readexactly(4)
        size = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        self.asked.append((kind, await reader.readexactly(size)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        writer.write(bytes((5, self._refusal, 0, 1, 127, 0, 0, 1, 0, 0)))
        if not self._refusal:
            await _relay(peer, port)

    async def _admits(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await reader.readexactly(1)
        user = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        is_welcome = (user, password) == (self._user, self._password)
        writer.write(bytes((1, 0 if is_welcome else 1)))
        return is_welcome


async def _relay(peer: Peer, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    there = asyncio.create_task(_copy(peer.reader, writer))
    try:
        await _copy(reader, peer.writer)
    finally:
        there.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await there
        writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


def new_pool(tls: ssl.SSLContext | None = None, max_idle_seconds: float = 90.0) -> Pool:
    """A pool that trusts nobody unless told: reading the system's authorities takes longer than most tests."""
    return Pool(tls or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), max_idle_seconds=max_idle_seconds)


async def eventually(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Returns when `condition` holds; fails when it does not in time."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "this did not happen in time"
        await asyncio.sleep(0.005)


def answer_of(body: bytes, *lines: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole answer with `content-length`."""
    head = b"".join(line + b"\r\n" for line in (b"HTTP/1.1 " + status, *lines, b"content-length: %d" % len(body)))
    return head + b"\r\n" + body


def chunked(*chunks: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """A whole answer in chunks."""
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + b"0\r\n" + trailers + b"\r\n"


OK = answer_of(b'{"ok":1}')
