import gzip
import zlib
from collections.abc import Callable
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cliproxy.canon.errors import BrokenAnswer
from cliproxy.transport.decoding import decoder_for

MB = 1024 * 1024
Pack = Callable[[bytes], bytes]


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS = {
    b"gzip": gzip.compress,
    b"x-gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"zstd": zstandard.ZstdCompressor().compress,
}
CASES = [*PACKERS.items(), (b"deflate", _raw_deflate)]
IDS = ["gzip", "x-gzip", "deflate", "zstd", "raw deflate"]


def unpacked(coding: bytes, pieces: list[bytes]) -> bytes:
    decoder = decoder_for([coding])
    assert decoder is not None
    out: list[bytes] = []
    for piece in pieces:
        decoder.feed(piece)
        while data := decoder.read():
            out.append(data)
    decoder.finish()
    return b"".join(out)


def bytewise(data: bytes) -> list[bytes]:
    return [bytes((byte,)) for byte in data]


@pytest.mark.parametrize(("coding", "pack"), CASES, ids=IDS)
@settings(deadline=None)
@given(data=st.binary(max_size=2000), cuts=st.lists(st.integers(0, 2100), max_size=5))
def test_any_cut_of_a_compressed_body_gives_the_same_bytes(
    coding: bytes, pack: Pack, data: bytes, cuts: list[int]
) -> None:
    packed = pack(data)
    edges = [0, *sorted(cuts), len(packed)]
    pieces = [piece for start, end in pairwise(edges) if (piece := packed[start:end])]

    assert unpacked(coding, pieces) == data
    assert unpacked(coding, bytewise(packed)) == data


@pytest.mark.parametrize(("coding", "pack"), CASES, ids=IDS)
def test_large_bodies_come_out_whole(coding: bytes, pack: Pack) -> None:
    data = bytes(range(256)) * 20_000 + bytes(3 * MB)

    assert unpacked(coding, [pack(data)]) == data


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_members_that_follow_one_another_are_one_body(coding: bytes) -> None:
    packed = PACKERS[coding](b"hello ") + PACKERS[coding](b"") + PACKERS[coding](b"world")

    assert unpacked(coding, [packed]) == b"hello world"
    assert unpacked(coding, bytewise(packed)) == b"hello world"


@pytest.mark.parametrize(("coding", "pack"), CASES, ids=IDS)
def test_every_truncation_is_noticed(coding: bytes, pack: Pack) -> None:
    packed = pack(b"hello, hello, hello")

    for end in range(1, len(packed)):
        with pytest.raises(BrokenAnswer, match=r"compressed body (broke off|is corrupt)"):
            unpacked(coding, [packed[:end]])


@pytest.mark.parametrize("coding", PACKERS)
@pytest.mark.parametrize("wrap", [b"%b garbage", b"garbage %b"])
def test_garbage_before_or_after_is_corrupt(coding: bytes, wrap: bytes) -> None:
    with pytest.raises(BrokenAnswer, match=r"compressed body (broke off|is corrupt)"):
        unpacked(coding, [wrap % PACKERS[coding](b"hello")])


@pytest.mark.parametrize("coding", PACKERS)
def test_no_data_at_all_is_an_empty_body(coding: bytes) -> None:
    assert unpacked(coding, []) == b""


@pytest.mark.parametrize(("coding", "pack"), CASES, ids=IDS)
def test_a_bomb_comes_out_in_pieces_of_bounded_size(coding: bytes, pack: Pack) -> None:
    decoder = decoder_for([coding])
    assert decoder is not None
    decoder.feed(pack(bytes(32 * MB)))

    assert max(len(decoder.read()) for _ in range(3)) <= 17 * MB


def test_a_window_larger_than_http_allows_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()

    with pytest.raises(BrokenAnswer, match="is corrupt"):
        unpacked(b"zstd", [packer.compress(bytes(MB)) + packer.flush()])


@pytest.mark.parametrize("codings", [[], [b""], [b"identity"], [b"Identity, chunked"], [b"identity", b"chunked"]])
def test_plain_bodies_need_no_decoder(codings: list[bytes]) -> None:
    assert decoder_for(codings) is None


@pytest.mark.parametrize("codings", [[b" GZIP "], [b"gzip,"], [b"gzip, identity"], [b"gzip", b"chunked"]])
def test_names_of_codings_are_read_leniently(codings: list[bytes]) -> None:
    assert decoder_for(codings) is not None


@pytest.mark.parametrize("codings", [[b"br"], [b"gzip, gzip"], [b"gzip", b"gzip"], [b"x" * 1000], [b"\xff\x00"]])
def test_other_codings_are_refused_by_name(codings: list[bytes]) -> None:
    with pytest.raises(BrokenAnswer, match=r"The upstream compressed its answer as .{1,40}, which nobody asked for"):
        decoder_for(codings)
