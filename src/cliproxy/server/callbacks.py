"""Where vendors send the browser back to: the addresses, the pages that a person sees there, and the listeners on the
ports that vendors know.

A page is answered when the login has ended, so that it can say how. It holds no script and loads nothing, and its texts
are escaped, since some of them came from the vendor, or in the address. A request that brings nothing, or belongs to no
login, is told so and disturbs none that waits.

A listener takes one request for each connection. Only the head is looked at; what a caller sends beyond it is thrown
away, so that closing does not cut the answer off.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import hashlib
import ipaddress
import socket
from collections.abc import Iterable
from html import escape
from http import HTTPStatus
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from msgspec import Struct

from cliproxy.config import rules
from cliproxy.gateway.logins import Logins, LoginStatus
from cliproxy.oauth.callback import read_query
from cliproxy.oauth.pkce import is_state
from cliproxy.providers.accounts import CodeLogin
from cliproxy.wire.http import Headers

DOORS: dict[str, str] = {
    "/anthropic/callback": "claude",
    "/codex/callback": "codex",
    "/google/callback": "gemini",
}
"""The addresses on the main port, and whose callbacks come there."""

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:12vh auto;padding:0 1.25rem}"
    "h1{font-size:1.5rem;line-height:1.25}p{margin:.75rem 0;overflow-wrap:anywhere}"
    ".vendor{border-left:.25rem solid GrayText;padding-left:.75rem}"
)
_STYLE_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} - CLI Proxy API</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
# The address of the page holds a code: nobody else is told it, and nothing is kept.
_HEADERS: Headers = (
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'".encode(),
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)

_MAX_HEAD_BYTES = 32 * 1024
_HEAD_SECONDS = 10.0
_DRAIN_SECONDS = 2.0
_MAX_DRAINED_BYTES = 1024 * 1024
_MOST_AT_ONCE = 200
_ATTEMPTS = 20
_NO_SUCH_ADDRESS = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})


class Page(Struct, frozen=True):
    status: int
    headers: Headers
    body: bytes


async def answer(logins: Logins, channel: str, query: str) -> Page:
    """The page for a browser that comes back from a vendor with `query`."""
    try:
        callback = read_query(query)
    except ValueError:
        return _told(
            400,
            "Nothing has arrived",
            "This is where a vendor sends you back after a login, but the address holds no answer of a vendor. "
            "A login that waits here goes on waiting: return to the vendor's page and finish it there.",
        )
    status = await logins.returned(channel, callback) if is_state(callback.state) else None
    if status is None:
        return _told(
            400,
            "Unknown or expired login",
            "This answer belongs to no login that waits here: the login has ended, has waited too long, or was begun by "
            "another program. Other logins are not touched by this.",
            _AGAIN,
        )
    return _page_of(channel, status)


_AGAIN = (
    "Begin again from where you began: in the management panel, or with `cli-proxy-api login` in a terminal. "
    "You can close this page."
)


def _page_of(channel: str, status: LoginStatus) -> Page:
    vendor = channel.capitalize()
    match status.phase:
        case "done":
            who = status.account or vendor
            return _told(
                200,
                f"Logged in: {who}",
                f"The {vendor} account is saved, and the gateway can use it now. You can close this page.",
            )
        case "failed":
            said = status.detail or status.problem
            return _told(_status_of(status), f"The login to {vendor} has failed", status.problem, _AGAIN, said=said)
        case "cancelled":
            return _told(400, f"The login to {vendor} was cancelled", "Nothing was saved.", _AGAIN)
        case _:
            return _told(
                202,
                "Still working",
                f"{vendor} has sent you back, and the account is being set up. That can take some minutes. Where you began "
                "the login you will see how it ends. You can close this page.",
            )


def _status_of(status: LoginStatus) -> int:
    """Whose fault it was, as far as HTTP can say that."""
    return 500 if status.problem.startswith("Failed to save") else 502 if status.problem.startswith("Failed") else 400


def _told(status: int, title: str, *paragraphs: str, said: str = "") -> Page:
    """`said` is what the vendor said, or what is known of it."""
    lines = [f"<p>{escape(text)}</p>" for text in paragraphs]
    if said and said not in paragraphs:
        lines.insert(1, f'<p class="vendor">{escape(said)}</p>')
    content = _PAGE.format(title=escape(title), style=_STYLE, body="\n".join(lines))
    return Page(status, _HEADERS, content.encode("utf-8", "replace"))


# -- listeners --------------------------------------------------------------------------------------------------------


class CallbackListener:
    """Hears the callbacks of one vendor. `port` is the one that is really listened on."""

    def __init__(self, logins: Logins, login: CodeLogin, port: int) -> None:
        self.port = port
        self._logins = logins
        self._login = login
        self._servers: list[asyncio.Server] = []
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self, sockets: Iterable[socket.socket]) -> None:
        for listening in sockets:
            self._servers.append(await asyncio.start_server(self._serve, sock=listening, limit=_MAX_HEAD_BYTES))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._serving:
            task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._serving) >= _MOST_AT_ONCE:
            writer.close()
            return
        self._serving.add(task)
        try:
            await self._reply(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # the browser has left, or nobody listens any more
        finally:
            self._serving.discard(task)
            writer.close()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            return
        page = await self._page(_Head(head))
        writer.write(_written(page))
        await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                left = _MAX_DRAINED_BYTES
                while left > 0 and (piece := await reader.read(_MAX_HEAD_BYTES)):
                    left -= len(piece)

    async def _page(self, head: _Head) -> Page:
        if not head.is_whole:
            return _told(400, "Bad request", "That was no HTTP request.")
        if head.path != self._login.callback_path:
            return _told(404, "Nothing here", "There is nothing at this address; it waits for the end of a login only.")
        if head.method != "GET":
            page = _told(405, "Method not allowed", "The end of a login comes with GET.")
            return Page(page.status, (*page.headers, (b"allow", b"GET")), page.body)
        return await answer(self._logins, self._login.channel, head.query)


async def listen(logins: Logins, login: CodeLogin, host: str, port: int) -> CallbackListener:
    """Listen for the callbacks of one vendor. Loopback means both of its addresses, since browsers take either for
    `localhost`. Port 0 takes a free one. Raises OSError."""
    sockets = _bound(host, port)
    listener = CallbackListener(logins, login, int(sockets[0].getsockname()[1]))
    try:
        await listener.start(sockets)
    except (OSError, asyncio.CancelledError):  # a port that nobody hears must not stay taken
        listener.close()
        for one in sockets:
            one.close()
        raise
    return listener


def _bound(host: str, port: int) -> list[socket.socket]:
    """Listening sockets, all on the same port."""
    for attempt in range(_ATTEMPTS):
        bound: list[socket.socket] = []
        wanted = port
        try:
            for address in _addresses(host):
                try:
                    bound.append(_listening(address, wanted))
                except OSError as error:
                    if bound and error.errno in _NO_SUCH_ADDRESS:
                        continue
                    raise
                wanted = int(bound[0].getsockname()[1])
        except OSError:
            for one in bound:
                one.close()
            is_unlucky = not port and bound and attempt + 1 < _ATTEMPTS  # free on one address, taken on the other
            if not is_unlucky:
                raise
        else:
            return bound
    raise OSError(errno.EADDRINUSE, "no port is free")


def _addresses(host: str) -> tuple[str, ...]:
    return ("127.0.0.1", "::1") if rules.is_loopback(host) else (host.strip("[]") or "0.0.0.0",)


def _listening(address: str, port: int) -> socket.socket:
    is_new = ":" in address
    listening = socket.socket(socket.AF_INET6 if is_new else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_new and ipaddress.ip_address(address).is_loopback:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen()
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


class _Head:
    """The head of a request, as far as it matters here; `is_whole` False: it is none."""

    def __init__(self, data: bytes) -> None:
        self.is_whole = False
        self._target = b""
        parser = HttpRequestParser(self)
        try:
            parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # whoever wants another protocol is answered in this one
        except HttpParserError:
            self.is_whole = False
        self.method = (parser.get_method() or b"").decode("latin-1") if self.is_whole else ""
        path, _, query = self._target.partition(b"#")[0].partition(b"?")
        self.path = unquote(path.decode("latin-1"))
        self.query = query.decode("latin-1")

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_headers_complete(self) -> None:
        self.is_whole = True


def _written(page: Page) -> bytes:
    phrase = HTTPStatus(page.status).phrase.encode()
    lines = [
        b"HTTP/1.1 %d %b" % (page.status, phrase),
        *(b"%b: %b" % line for line in page.headers),
        b"content-length: %d" % len(page.body),
        b"connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + page.body
