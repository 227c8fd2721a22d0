import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.canon.parts import Media
from cliproxy.wire.media import data_url, media_at, media_of, mime_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("text", "mime"),
    [
        ("image/png", "image/png"),
        (" Image/JPG ", "image/jpeg"),
        ("image/pjpeg", "image/jpeg"),
        ("audio/mp3", "audio/mpeg"),
        ("audio/x-wav; rate=8000", "audio/wav"),
        ("text/plain;charset=utf-8;base64", "text/plain"),
        ("", ""),
    ],
)
def test_media_types_are_told_in_one_way(text: str, mime: str) -> None:
    assert mime_of(text) == mime


@settings(deadline=None)
@given(data=st.binary(min_size=1), spaces=st.sampled_from(["", "\n", "\r\n", " \t"]), pads=st.booleans())
def test_base64_is_read_however_it_is_written(data: bytes, spaces: str, pads: bool) -> None:
    plain = b64(data)
    urlsafe = base64.urlsafe_b64encode(data).decode()
    for text in (plain, urlsafe):
        written = spaces.join(text if pads else text.rstrip("="))

        media = media_of(written, "image/png")
        assert media == Media("image/png", data=plain)


@pytest.mark.parametrize(
    "text",
    ["", "  ", "=", "====", "a", "abcde", "ab=c", "abc!", "é===", "abcd" * 50 + "!", "abcd" * 50 + "a", "http://x/y"],
)
def test_what_is_not_base64_is_no_media(text: str) -> None:
    assert media_of(text, "image/png") is None


@pytest.mark.parametrize(
    ("head", "filename", "mime"),
    [
        (PNG, "", "image/png"),
        (b"%PDF-1.7", "x.png", "application/pdf"),
        (b"\xff\xd8\xff\xe0", "", "image/jpeg"),
        (b"GIF89a", "", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVE", "", "application/octet-stream"),
        (b"hello", "notes.txt", "text/plain"),
        (b"h", "", "application/octet-stream"),
    ],
)
def test_a_type_that_is_not_stated_is_seen_in_the_bytes_or_the_name(head: bytes, filename: str, mime: str) -> None:
    assert media_of(b64(head), "", filename) == Media(mime, data=b64(head))


@pytest.mark.parametrize(
    ("url", "media"),
    [
        ("https://example.com/a.png", Media(url="https://example.com/a.png")),
        ("gs://bucket/x", Media(url="gs://bucket/x")),
        ("", None),
        ("  ", None),
        (f"data:image/png;base64,{b64(PNG)}", Media("image/png", data=b64(PNG))),
        (f"DATA:Image/JPG;BASE64,{b64(PNG)}", Media("image/jpeg", data=b64(PNG))),
        (f"data:image/png;charset=x;base64 ,{b64(PNG)}", Media("image/png", data=b64(PNG))),
        ("data:image/png;base64,/%2BA%3D", Media("image/png", data="/+A=")),
        ("data:,hello%20world", Media("text/plain", data=b64(b"hello world"))),
        ("data:text/html,<b>", Media("text/html", data=b64(b"<b>"))),
        ("data:text/plain,a,b", Media("text/plain", data=b64(b"a,b"))),
        ("data:image/png;base64,", None),
        ("data:image/png;base64,!!!!", None),
        ("data:image/png;base64", None),
        ("data:,", None),
    ],
)
def test_media_are_found_at_urls(url: str, media: Media | None) -> None:
    assert media_at(url) == media


@settings(deadline=None)
@given(data=st.binary(min_size=1))
def test_what_is_written_as_a_data_url_is_read_back(data: bytes) -> None:
    media = Media("image/webp", data=b64(data))

    assert media_at(data_url(media)) == media


def test_media_by_reference_stay_a_reference() -> None:
    assert data_url(Media(url="https://example.com/x")) == "https://example.com/x"
    assert data_url(Media(data="QQ==")) == "data:application/octet-stream;base64,QQ=="
