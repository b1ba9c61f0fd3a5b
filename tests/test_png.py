"""Our PNG is everyone's, everyone's is ours, and a damaged one is noticed."""

import io
import struct
import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from wm_gym.storage.png import decode_png, decode_png_into, encode_png


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_our_png_is_what_pillow_reads_and_what_we_read(channels):
    rng = np.random.default_rng(channels)
    for high in (2, 256):
        for _ in range(10):
            picture = rng.integers(0, high, (*rng.integers(1, 40, 2), channels), dtype=np.uint8)
            png = encode_png(picture)
            np.testing.assert_array_equal(decode_png(memoryview(png)), picture, strict=True)
            with Image.open(io.BytesIO(png)) as image:
                np.testing.assert_array_equal(np.asarray(image).reshape(picture.shape), picture)


def smooth_picture(mode: str) -> Image.Image:
    """Smooth enough for a PNG writer to choose filters."""
    x, y = np.meshgrid(np.arange(37), np.arange(23))
    picture = np.stack([x * 5, y * 7, x + y], axis=-1).astype(np.uint8)
    return Image.fromarray(picture).convert(mode)


@pytest.mark.parametrize(
    ("mode", "read_as"),
    [("P", "RGB"), ("1", "L"), ("L", "L"), ("LA", "LA"), ("RGB", "RGB"), ("RGBA", "RGBA")],
)
def test_a_foreign_png_is_read_as_pillow_reads_it(mode, read_as):
    file = io.BytesIO()
    smooth_picture(mode).save(file, "PNG")
    expected = np.asarray(smooth_picture(mode).convert(read_as)).reshape(23, 37, -1)
    np.testing.assert_array_equal(decode_png(file.getvalue()), expected, strict=True)


def test_a_png_of_16_bits_is_refused_not_rounded():
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(file, "PNG")
    with pytest.raises(ValueError, match="16 bits per channel"):
        decode_png(file.getvalue())


def test_a_png_of_another_shape_is_refused():
    png = encode_png(np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"promises 4×5 pixels, expected \(5, 4, 3\)"):
        decode_png_into(png, np.zeros((5, 4, 3), np.uint8))


def test_every_flipped_byte_and_every_cut_of_a_png_is_noticed():
    png = encode_png(np.random.default_rng(0).integers(0, 4, (5, 7, 3), dtype=np.uint8))
    out = np.empty((5, 7, 3), np.uint8)
    for place in range(len(png)):
        flipped = png[:place] + bytes([png[place] ^ 1]) + png[place + 1 :]
        for damaged in (flipped, png[:place]):
            with pytest.raises(ValueError, match="PNG"):
                decode_png_into(damaged, out)


def png_of(height: int, width: int, deflated: bytes, colour_type: int = 2) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)

    header = struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", deflated) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize("colour_type", [2, 0])
def test_a_picture_that_inflates_to_more_than_its_header_promises_costs_no_memory(colour_type):
    png = png_of(96, 96, zlib.compress(bytes(200_000_000), 9), colour_type)
    tracemalloc.start()
    try:
        for decode in (decode_png, lambda png: decode_png_into(png, np.empty((96, 96, 3), "u1"))):
            with suppress(ValueError):
                decode(png)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5e6


@pytest.mark.parametrize("side", [12_000, 60_000, 2**31 - 1])
def test_a_promise_of_another_size_is_refused_before_it_is_decoded(side):
    png = png_of(side, side, zlib.compress(bytes(12_000), 9), colour_type=0)
    with pytest.raises(ValueError, match=rf"promises {side}×{side} pixels, expected \(96, 96, 3\)"):
        decode_png_into(png, np.empty((96, 96, 3), np.uint8))


@pytest.mark.parametrize("side", [60_000, 2**31 - 1])
def test_a_giant_promise_that_is_not_kept_is_refused(side):
    with pytest.raises(ValueError, match=r"the PNG \(\d+ bytes\) is damaged: .*exceeds limit"):
        decode_png(png_of(side, side, zlib.compress(b"", 9)))
