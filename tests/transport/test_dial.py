"""Ways to an origin: TLS, HTTP proxies, SOCKS. Both event loops, real sockets, certificates of our own."""

import asyncio
import base64
import re
import ssl

import pytest
from certificates import Authority
from wires import (
    HOLD,
    OK,
    PATIENT,
    READ,
    RESET,
    ConnectProxy,
    Flood,
    Listener,
    Script,
    Server,
    SocksProxy,
    Wait,
    answer_of,
    eventually,
    new_pool,
)

from cliproxy.canon.errors import GatewayError, Unreachable, UpstreamTimeout
from cliproxy.transport.base import Deadlines
from cliproxy.transport.pool import Pool
from cliproxy.wire.http import HttpRequest, Origin

MB = 1024 * 1024
SECRET = "s3cr3t-pa55"
LOCAL = ("DNS:localhost", "DNS:upstream.test", "IP:127.0.0.1")


async def ask(origin: Origin, tls: ssl.SSLContext | None = None, deadlines: Deadlines = PATIENT) -> bytes:
    """The body that comes from `origin` to a fresh pool."""
    pool = new_pool(tls)
    try:
        answer = await pool.send(HttpRequest(b"GET", origin, b"/v1/models?a=b", b""), deadlines)
        try:
            return await answer.read(64 * MB)
        finally:
            answer.close()
    finally:
        pool.close()


def everything_said(error: BaseException | None) -> str:
    """The texts of an error and of all that led to it."""
    said = ""
    while error is not None:
        said += f"{error!r} {error} "
        error = error.__cause__ or error.__context__
    return said


# -- TLS


async def test_a_trusted_certificate_with_the_right_name_is_accepted(authority: Authority) -> None:
    async with Server([READ, OK], [READ, OK], tls=authority.server(*LOCAL)) as server:
        assert await ask(server.origin(host="localhost"), authority.client) == b'{"ok":1}'
        assert await ask(server.origin(host="127.0.0.1"), authority.client) == b'{"ok":1}'


async def test_a_certificate_of_unknown_origin_is_refused_in_plain_words(authority: Authority) -> None:
    async with Server([HOLD], tls=authority.server(*LOCAL)) as server:
        request = HttpRequest(b"GET", server.origin(host="localhost"), b"/", b"")

        with pytest.raises(
            Unreachable, match=r"^Could not connect to localhost: its certificate is not trusted \(.*\)"
        ):
            await Pool().send(request, PATIENT)


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    async with Server([HOLD], tls=authority.server("DNS:other.test")) as server:
        with pytest.raises(Unreachable, match=r"not trusted \(Hostname mismatch, .*'localhost'\)\."):
            await ask(server.origin(host="localhost"), authority.client)


async def test_a_server_that_does_not_speak_tls_is_unreachable(authority: Authority) -> None:
    async with Server([b"HTTP/1.1 400 Bad Request\r\n\r\n", HOLD]) as server:
        origin = Origin("https", "localhost", server.port)

        with pytest.raises(Unreachable, match="Could not connect to localhost: TLS failed"):
            await ask(origin, authority.client)


@pytest.mark.parametrize("script", [[], [RESET]], ids=["closed", "reset"])
async def test_a_server_that_hangs_up_during_the_handshake_is_unreachable(script: Script, authority: Authority) -> None:
    async with Server(script) as server:
        with pytest.raises(Unreachable, match=r"Could not connect to localhost: (TLS failed|.*connection)"):
            await ask(Origin("https", "localhost", server.port), authority.client)


async def test_a_handshake_that_stalls_is_a_timeout(authority: Authority) -> None:
    async with Server([HOLD]) as server:
        with pytest.raises(UpstreamTimeout, match=re.escape("Connecting to localhost took longer than 0.1 s.")):
            await ask(Origin("https", "localhost", server.port), authority.client, Deadlines(connect=0.1))
        await eventually(server.peers[0].gone.is_set, 2.0)


async def test_connections_over_tls_are_used_again(authority: Authority) -> None:
    pool = new_pool(authority.client)
    async with Server([READ, OK, READ, OK], tls=authority.server(*LOCAL)) as server:
        for _ in range(2):
            answer = await pool.send(server.request(), PATIENT)
            assert await answer.read(100) == b'{"ok":1}'
            answer.close()

        assert len(server.peers) == 1
        pool.close()


async def test_a_request_over_tls_is_sent_once_more_when_its_used_connection_dies(authority: Authority) -> None:
    pool = new_pool(authority.client)
    async with Server([READ, OK, READ], [READ, OK], tls=authority.server(*LOCAL)) as server:
        for _ in range(2):
            answer = await pool.send(server.request(), PATIENT)
            assert await answer.read(100) == b'{"ok":1}'
            answer.close()

        assert len(server.peers) == 2
        pool.close()


@pytest.mark.parametrize("ending", [b"content-length: %d\r\n", b""], ids=["length", "close"])
async def test_a_large_body_over_tls_reaches_a_slow_reader_whole(ending: bytes, authority: Authority) -> None:
    pool = new_pool(authority.client)
    total = 32 * MB
    head = b"HTTP/1.1 200 OK\r\n" + (ending % total if ending else ending) + b"\r\n"
    async with Server([READ, head, Flood(b"x" * 65536, total // 65536)], tls=authority.server(*LOCAL)) as server:
        answer = await pool.send(server.request(), PATIENT)
        await eventually(lambda: answer.is_paused)
        await asyncio.sleep(0.1)

        assert server.peers[0].sent_bytes < total
        assert len(await answer.read(total)) == total
        answer.close()
        pool.close()


async def test_a_caller_who_leaves_cuts_tls_connections_too(authority: Authority) -> None:
    pool = new_pool(authority.client)
    script = [READ, b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhe", HOLD]
    async with Server(script, tls=authority.server(*LOCAL)) as server:
        answer = await pool.send(server.request(), PATIENT)
        task = asyncio.create_task(answer.read(100))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        answer.close()

        await eventually(server.peers[0].gone.is_set, 2.0)
        pool.close()


# -- HTTP proxies


async def test_plain_requests_go_to_the_proxy_in_absolute_form() -> None:
    async with Server([READ, OK]) as proxy:
        origin = Origin("http", "upstream.test", 8080, f"http://127.0.0.1:{proxy.port}")

        assert await ask(origin) == b'{"ok":1}'
        assert proxy.peers[0].requests == [
            b"GET http://upstream.test:8080/v1/models?a=b HTTP/1.1\r\nhost: upstream.test:8080\r\n"
            b"accept-encoding: identity\r\ncontent-length: 0\r\n\r\n"
        ]


async def test_credentials_for_the_proxy_are_decoded_and_sent_with_each_plain_request() -> None:
    pool = new_pool()
    async with Server([READ, OK, READ, OK]) as proxy:
        origin = Origin("http", "upstream.test", 80, f"http://m%40x:p%3Aw%25@127.0.0.1:{proxy.port}")
        for _ in range(2):
            answer = await pool.send(HttpRequest(b"GET", origin, b"/", b""), PATIENT)
            await answer.read(100)
            answer.close()

        line = b"\r\nproxy-authorization: Basic " + base64.b64encode(b"m@x:p:w%") + b"\r\n"
        assert [request.count(line) for request in proxy.peers[0].requests] == [1, 1]
        pool.close()


async def test_a_proxy_without_a_scheme_is_an_http_proxy() -> None:
    async with Server([READ, OK]) as proxy:
        assert await ask(Origin("http", "upstream.test", 80, f"127.0.0.1:{proxy.port}")) == b'{"ok":1}'
        assert proxy.peers[0].requests[0].startswith(b"GET http://upstream.test/v1/models?a=b HTTP/1.1\r\n")


@pytest.mark.parametrize("userinfo", ["", f"me:{SECRET}@"])
async def test_tls_runs_through_a_tunnel_and_names_are_resolved_at_the_proxy(
    userinfo: str, authority: Authority
) -> None:
    async with (
        Server([READ, OK], tls=authority.server(*LOCAL)) as server,
        ConnectProxy(credentials=userinfo.rstrip("@")) as proxy,
    ):
        origin = server.origin(f"http://{userinfo}127.0.0.1:{proxy.port}", "upstream.test")

        assert await ask(origin, authority.client) == b'{"ok":1}'
        head = proxy.peers[0].requests[0]
        target = b"upstream.test:%d" % server.port
        assert head.startswith(b"CONNECT " + target + b" HTTP/1.1\r\nhost: " + target + b"\r\n")
        assert (b"proxy-authorization" in head) == bool(userinfo)
        assert server.peers[0].requests[0].startswith(b"GET /v1/models?a=b HTTP/1.1\r\n")
        assert b"proxy-authorization" not in server.peers[0].requests[0]


async def test_a_tunnel_to_an_address_of_ipv6_names_its_port() -> None:
    async with ConnectProxy(refusal=[b"HTTP/1.1 403 Forbidden\r\n\r\n"]) as proxy:
        with pytest.raises(Unreachable):
            await ask(Origin("https", "2001:db8::1", 443, f"http://127.0.0.1:{proxy.port}"))
        assert proxy.peers[0].requests[0].startswith(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n")


async def test_connections_through_a_tunnel_are_used_again(authority: Authority) -> None:
    pool = new_pool(authority.client)
    async with Server([READ, OK, READ, OK], tls=authority.server(*LOCAL)) as server, ConnectProxy() as proxy:
        origin = server.origin(f"http://127.0.0.1:{proxy.port}", "upstream.test")
        for _ in range(2):
            answer = await pool.send(HttpRequest(b"GET", origin, b"/", b""), PATIENT)
            await answer.read(100)
            answer.close()

        assert len(proxy.peers) == 1
        pool.close()


async def test_a_large_body_passes_a_tunnel_whole(authority: Authority) -> None:
    body = b"0123456789abcdef" * (4 * MB // 16)
    async with Server([READ, answer_of(body)], tls=authority.server(*LOCAL)) as server, ConnectProxy() as proxy:
        origin = server.origin(f"http://127.0.0.1:{proxy.port}", "upstream.test")

        assert await ask(origin, authority.client) == body


async def test_the_certificate_in_a_tunnel_is_the_upstreams(authority: Authority) -> None:
    async with Server([HOLD], tls=authority.server("DNS:other.test")) as server, ConnectProxy() as proxy:
        origin = server.origin(f"http://me:{SECRET}@127.0.0.1:{proxy.port}", "upstream.test")

        with pytest.raises(
            Unreachable, match=r"upstream\.test through its proxy: its certificate .*Hostname"
        ) as caught:
            await ask(origin, authority.client)
        assert SECRET not in everything_said(caught.value)


REFUSALS: dict[str, tuple[Script, str]] = {
    "407": ([b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"], "it wants other credentials"),
    "403": ([b"HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nno\r\n"], "it answered 403"),
    "502": ([b"HTTP/1.0 502 Bad Gateway\r\n\r\n<html>"], "it answered 502"),
    "in two pieces": ([b"HTTP/1.1 40", Wait(0.01), b"3 Forbidden\r\nx: y\r\n", Wait(0.01), b"\r\n"], "answered 403"),
    "closing": ([], "The proxy closed the connection."),
    "closing mid-head": ([b"HTTP/1.1 200 Connec"], "The proxy closed the connection."),
    "reset": ([RESET], "The proxy closed the connection."),
    "garbage": ([b"SSH-2.0-OpenSSH_9.7\r\n", HOLD], "The proxy does not speak HTTP."),
    "an endless head": ([b"HTTP/1.1 200 OK\r\n", Flood(b"x: y\r\n" * 1000, 1000)], "The proxy's answer is too long."),
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_proxy_that_gives_no_tunnel_is_named_as_the_cause(case: str) -> None:
    script, cause = REFUSALS[case]
    async with ConnectProxy(refusal=[*script, Wait()]) as proxy:
        origin = Origin("https", "upstream.test", 443, f"http://me:{SECRET}@127.0.0.1:{proxy.port}")

        with pytest.raises(Unreachable, match=re.escape(cause)) as caught:
            await ask(origin)
        assert SECRET not in everything_said(caught.value)
        assert SECRET not in repr(origin)


async def test_wrong_credentials_for_a_proxy_are_told_without_them() -> None:
    async with ConnectProxy(credentials="me:right") as proxy:
        origin = Origin("https", "upstream.test", 443, f"http://me:{SECRET}@127.0.0.1:{proxy.port}")

        with pytest.raises(Unreachable, match="it wants other credentials") as caught:
            await ask(origin)
        assert SECRET not in everything_said(caught.value)


async def test_a_tunnel_that_closes_once_it_is_open_is_unreachable() -> None:
    async with ConnectProxy(refusal=[b"HTTP/1.1 200 OK\r\n\r\n"]) as proxy:
        with pytest.raises(Unreachable, match=r"upstream\.test"):
            await ask(Origin("https", "upstream.test", 443, f"http://127.0.0.1:{proxy.port}"))


async def test_a_tunnel_that_is_not_answered_is_a_timeout() -> None:
    async with ConnectProxy(refusal=[HOLD]) as proxy:
        with pytest.raises(UpstreamTimeout, match=r"upstream\.test through its proxy took longer than 0\.1 s"):
            await ask(
                Origin("https", "upstream.test", 443, f"http://127.0.0.1:{proxy.port}"),
                deadlines=Deadlines(connect=0.1),
            )
        await eventually(proxy.peers[0].gone.is_set, 2.0)


async def test_plain_requests_reach_a_proxy_over_tls(authority: Authority) -> None:
    async with Server([READ, OK], tls=authority.server(*LOCAL)) as proxy:
        origin = Origin("http", "upstream.test", 80, f"https://localhost:{proxy.port}")

        assert await ask(origin, authority.client) == b'{"ok":1}'
        assert proxy.peers[0].requests[0].startswith(b"GET http://upstream.test/v1/models?a=b HTTP/1.1\r\n")


async def test_tls_runs_inside_the_tls_of_a_proxy(authority: Authority) -> None:
    body = b"0123456789abcdef" * (MB // 16)
    proxy_tls, server_tls = authority.server("DNS:localhost"), authority.server("DNS:upstream.test")
    async with Server([READ, answer_of(body)], tls=server_tls) as server, ConnectProxy(tls=proxy_tls) as proxy:
        origin = server.origin(f"https://localhost:{proxy.port}", "upstream.test")

        assert await ask(origin, authority.client) == body


async def test_a_proxy_with_a_certificate_of_unknown_origin_is_refused(authority: Authority) -> None:
    async with ConnectProxy(tls=authority.server("DNS:other.test")) as proxy:
        origin = Origin("https", "upstream.test", 443, f"https://me:{SECRET}@localhost:{proxy.port}")

        with pytest.raises(Unreachable, match="through its proxy: its certificate is not trusted") as caught:
            await ask(origin, authority.client)
        assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize(
    "proxy",
    [f"ftp://me:{SECRET}@h:1", f"http://me:{SECRET}@h:99999", "http://", f"http://me:{SECRET}@[h:1", "socks5://"],
)
async def test_a_proxy_that_is_no_address_is_unreachable_and_not_repeated(proxy: str) -> None:
    with pytest.raises(Unreachable, match="The proxy's address is not a URL") as caught:
        await ask(Origin("https", "upstream.test", 443, proxy))
    assert SECRET not in str(caught.value)


async def test_a_proxy_that_cannot_be_reached_is_unreachable() -> None:
    async with Listener() as gone:
        port = gone.port
    for url in (f"http://me:{SECRET}@127.0.0.1:{port}", f"socks5://me:{SECRET}@127.0.0.1:{port}"):
        with pytest.raises(Unreachable, match=r"upstream\.test through its proxy: connection refused\.") as caught:
            await ask(Origin("https", "upstream.test", 443, url))
        assert SECRET not in everything_said(caught.value)


# -- SOCKS


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
async def test_names_are_resolved_at_the_socks_proxy(scheme: str) -> None:
    async with Server([READ, OK]) as server, SocksProxy() as proxy:
        origin = server.origin(f"{scheme}://127.0.0.1:{proxy.port}", "upstream.test")

        assert await ask(origin) == b'{"ok":1}'
        assert proxy.asked == [(3, b"upstream.test")]
        assert server.peers[0].requests[0].startswith(b"GET /v1/models?a=b HTTP/1.1\r\nhost: upstream.test:")


async def test_addresses_go_to_the_socks_proxy_as_they_are() -> None:
    async with Server([READ, OK]) as server, SocksProxy() as proxy:
        assert await ask(server.origin(f"socks5://127.0.0.1:{proxy.port}")) == b'{"ok":1}'
        assert proxy.asked == [(1, b"\x7f\x00\x00\x01")]


async def test_tls_and_credentials_work_through_socks(authority: Authority) -> None:
    pool = new_pool(authority.client)
    async with (
        Server([READ, OK, READ, OK], tls=authority.server(*LOCAL)) as server,
        SocksProxy(user=b"m@x", password=b"p:w") as proxy,
    ):
        origin = server.origin(f"socks5://m%40x:p%3Aw@127.0.0.1:{proxy.port}", "upstream.test")
        for _ in range(2):
            answer = await pool.send(HttpRequest(b"GET", origin, b"/", b""), PATIENT)
            assert await answer.read(100) == b'{"ok":1}'
            answer.close()

        assert len(proxy.peers) == 1
        pool.close()


async def test_the_certificate_behind_socks_is_verified(authority: Authority) -> None:
    async with Server([HOLD], tls=authority.server("DNS:other.test")) as server, SocksProxy() as proxy:
        with pytest.raises(Unreachable, match=r"its certificate is not trusted \(Hostname mismatch"):
            await ask(server.origin(f"socks5://127.0.0.1:{proxy.port}", "upstream.test"), authority.client)


@pytest.mark.parametrize(
    ("userinfo", "cause"), [("", "authentication method"), (f"me:{SECRET}@", "authentication failure")]
)
async def test_wrong_credentials_for_socks_are_told_without_them(userinfo: str, cause: str) -> None:
    async with SocksProxy(user=b"me", password=b"right") as proxy:
        with pytest.raises(Unreachable, match=cause) as caught:
            await ask(Origin("https", "upstream.test", 443, f"socks5://{userinfo}127.0.0.1:{proxy.port}"))
        assert SECRET not in everything_said(caught.value)


@pytest.mark.parametrize(
    ("code", "cause"), [(2, "Connection not allowed by ruleset"), (4, "Host unreachable"), (77, "")]
)
async def test_what_socks_refuses_is_told(code: int, cause: str) -> None:
    async with SocksProxy(refusal=code) as proxy:
        with pytest.raises(Unreachable, match=rf"upstream\.test through its proxy: the proxy failed \(.*{cause}"):
            await ask(Origin("https", "upstream.test", 443, f"socks5://127.0.0.1:{proxy.port}"))


@pytest.mark.parametrize("script", [[], [b"\x05"], [b"HTTP/1.1 400 Bad Request\r\n\r\n"], [b"\x05\x00\x05"], [RESET]])
async def test_what_is_not_socks_is_unreachable(script: Script) -> None:
    async with Server([Wait(0.02), *script]) as proxy:
        with pytest.raises(Unreachable, match=r"Could not connect to upstream\.test through its proxy"):
            await ask(Origin("https", "upstream.test", 443, f"socks5://127.0.0.1:{proxy.port}"))


async def test_credentials_that_do_not_fit_into_socks_are_told_without_them() -> None:
    async with SocksProxy(user=b"me", password=b"x") as proxy:
        for password in (SECRET + "%C3%A9", SECRET * 40):
            origin = Origin("https", "upstream.test", 443, f"socks5://me:{password}@127.0.0.1:{proxy.port}")

            with pytest.raises(Unreachable, match="do not fit into SOCKS5") as caught:
                await ask(origin)
            assert SECRET not in str(caught.value)


# -- leaving


@pytest.mark.parametrize(
    "way",
    ["http://127.0.0.1:{}", "socks5://127.0.0.1:{}", "https://127.0.0.1:{}", ""],
    ids=["connect", "socks", "tls", "direct"],
)
async def test_a_caller_who_leaves_while_we_dial_cuts_the_connection_at_once(way: str) -> None:
    async with Server([HOLD]) as server:
        origin = Origin("https", "127.0.0.1", server.port, way.format(server.port))
        task = asyncio.create_task(ask(origin))
        await eventually(lambda: server.peers)
        await asyncio.sleep(0.02)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(server.peers[0].gone.is_set, 2.0)


async def test_a_caller_who_leaves_during_the_handshake_in_a_tunnel_cuts_the_tunnel(authority: Authority) -> None:
    async with Server([HOLD]) as server, ConnectProxy() as proxy:
        origin = Origin("https", "upstream.test", server.port, f"http://127.0.0.1:{proxy.port}")
        task = asyncio.create_task(ask(origin, authority.client))
        await eventually(lambda: server.peers)
        await asyncio.sleep(0.02)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        await eventually(server.peers[0].gone.is_set, 2.0)


async def test_dialling_has_one_deadline_for_all_its_steps(authority: Authority) -> None:
    async with Server([HOLD]) as server, ConnectProxy() as proxy:
        origin = Origin("https", "upstream.test", server.port, f"http://127.0.0.1:{proxy.port}")

        with pytest.raises(GatewayError) as caught:
            await ask(origin, authority.client, Deadlines(connect=0.2))
        assert isinstance(caught.value, UpstreamTimeout)
