"""Media types, base64 and data URLs, read as leniently as clients write them.

Source: RFC 2397 (data URLs), RFC 4648 (base64), checked 2026-11-24.
"""

import base64
import mimetypes
from urllib.parse import unquote, unquote_to_bytes

from cliproxy.canon.parts import Media

_ALIASES = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
}
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
)


def mime_of(text: str) -> str:
    """`text` as a media type: lower case, without parameters, aliases resolved."""
    mime = text.partition(";")[0].strip().lower()
    return _ALIASES.get(mime, mime)


def media_at(url: str) -> Media | None:
    """The media behind a URL: by value for data URLs, by reference for others; None when it cannot be used."""
    if url[:5].lower() != "data:":
        return Media(url=url) if url.strip() else None
    head, comma, body = url[5:].partition(",")
    if not comma:
        return None
    mime = mime_of(head) or "text/plain"
    if head.lower().rstrip().endswith(";base64"):
        return media_of(unquote(body) if "%" in body else body, mime)
    data = base64.b64encode(unquote_to_bytes(body)).decode()
    return Media(mime, data=data) if data else None


def media_of(data: str, mime: str = "", filename: str = "") -> Media | None:
    """Media from base64 text, which may hold white space or be URL-safe; None when it is not base64 or empty."""
    text = "".join(data.split()).replace("-", "+").replace("_", "/").rstrip("=")
    if not text or len(text) % 4 == 1 or text.encode("ascii", "replace").translate(None, _BASE64):
        return None
    text += "=" * (-len(text) % 4)
    head = base64.b64decode(text[:64])
    return Media(mime_of(mime) or _guessed(head, filename), data=text)


def data_url(media: Media) -> str:
    """`media` as a URL that carries it or leads to it."""
    return f"data:{media.mime or 'application/octet-stream'};base64,{media.data}" if media.data else media.url


def _guessed(head: bytes, filename: str) -> str:
    for magic, mime in _MAGIC:
        if head.startswith(magic):
            return mime
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return mimetypes.guess_type(filename)[0] or "application/octet-stream"
