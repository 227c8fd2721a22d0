"""Each rule lets the right values through and says what to do about the others."""

from __future__ import annotations

import pytest

from cliproxy.config import rules

ACCEPTED = [
    (rules.base_url, ["", "https://a.example", "http://127.0.0.1:8080/v1/", "http://[::1]:9", "https://ä.example/x"]),
    (rules.proxy_url, ["", "direct", "none", "socks5://u:p@h:1080", "socks5h://h", "http://h:3128/", "https://h"]),
    (rules.listen_host, ["", "0.0.0.0", "::1", "localhost", "gateway.example"]),
    (rules.network, ["10.0.0.0/8", "fd00::/8", "192.168.1.7"]),
    (rules.cors_origin, ["*", "https://panel.example", "http://localhost:5173"]),
    (rules.header_name, ["x-team", "X_Team"]),
    (rules.header_value, ["", "a b", "$Name"]),
    (rules.upstream_key, ["sk-ant-123", "!~"]),
    (rules.name_prefix, ["", "team"]),
    (rules.management_key, ["", "short", "x" * 72, "$2a$10$" + "x" * 90]),
]
REFUSED = [
    (rules.base_url, ["a.example", "ftp://a", "https:///", "https:///x", "http://h:99999", "https://u:p@h", "https://h?x=1",
                      "https://h#x", "https://h /x", "http://[::1", "https://h\x00", "//h"]),
    (rules.proxy_url, ["h:3128", "socks4://h", "http:///", "http://h/path", "ftp://h", "socks5://h:x", "Direct"]),
    (rules.listen_host, ["http://h", "a b", "h/x"]),
    (rules.network, ["10.0.0.1/8", "nonsense", "10.0.0.0/33"]),
    (rules.cors_origin, ["https://h/", "panel.example", "null "]),
    (rules.header_name, ["", "a b", "a:", "ä", "a\r\nb"]),
    (rules.header_value, ["a\r\nb", "ä", "\x00"]),
    (rules.upstream_key, ["", "a b", "a\nb", "sk-“quoted”"]),
    (rules.name_prefix, ["a/b", "a b"]),
    (rules.management_key, ["x" * 73, "ü" * 37]),
    (rules.not_empty, ["", "\x07"]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in ACCEPTED for text in texts])
def test_a_good_value_passes(rule, text):
    assert rule(text) == ""


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in REFUSED for text in texts])
def test_a_bad_value_is_refused_without_being_repeated(rule, text):
    message = rule(text)

    assert message
    assert len(text) < 4 or text not in message


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("90s", 90), ("500ms", 0.5), ("1h30m", 5400), ("1.5m", 90), ("0s", 0), ("2us", 2e-6)],
)
def test_go_durations_are_seconds(text, seconds):
    assert rules.go_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "h", "1", "1h 30m", "-1s", "1d", "s1", "1hx", "1h-1s"])
def test_other_texts_are_no_durations(text):
    assert rules.go_duration(text) is None


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LocalHost"])
def test_loopback_hosts_are_recognised(host):
    assert rules.is_loopback(host)


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "10.0.0.1", "gateway.example"])
def test_every_other_host_can_be_reached(host):
    assert not rules.is_loopback(host)
