"""Asking for what must be refused, and seeing that nothing has changed by it."""

from __future__ import annotations

from managed import Managed, refused

INVALID = refused(400, "invalid body")
NOT_FOUND = refused(404, "item not found")


def refuses(
    managed: Managed,
    method: str,
    path: str,
    body: object = None,
    told: tuple[int, object] = INVALID,
    *,
    raw: bytes | None = None,
) -> None:
    """The answer is `told`; the file is untouched to the byte, and so is what `GET` shows."""
    before, shown = _state(managed, path)

    reply = managed.ask(method, path, body, raw=raw)

    assert reply.told == told, reply
    assert _state(managed, path) == (before, shown)


def _state(managed: Managed, path: str) -> tuple[tuple[bytes, int], object]:
    stat = managed.path.stat()
    return (managed.path.read_bytes(), stat.st_mtime_ns), managed.get(path.partition("?")[0]).json
