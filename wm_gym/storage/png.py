"""PNG pictures whose rows all use filter 0: lossless, readable anywhere, one inflate from pixels.

`encode_png` writes header, one IDAT chunk and end, nothing else. `decode_png_into` recognises that
layout and decodes it without Pillow, several times as fast; it gives every other PNG to Pillow.

A few bytes can inflate to much: no more is inflated than the header promises, and nothing where
that is not the size that was asked for.
"""

import io
import struct
import zlib
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from isal import isal_zlib
from jaxtyping import UInt8
from PIL import Image

Blob: TypeAlias = bytes | memoryview

_INFLATE_ERROR: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]  # a stub's slip
_BOMB = Image.DecompressionBombError
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> grey, grey + alpha, RGB, RGB + alpha
_MODES = ("L", "LA", "RGB", "RGBA")
_AROUND_PIXELS = (
    57  # bytes of our layout that are not compressed pixels: 33 + 8 before, 4 + 12 after
)


def encode_png(picture: UInt8[np.ndarray, "h w c"], *, level: int = 6) -> bytes:
    height, width, channels = picture.shape
    if picture.dtype != np.uint8 or channels not in _COLOUR_TYPES:
        raise ValueError(
            f"picture is {picture.dtype} of shape {picture.shape}, "
            "expected uint8 of shape (h, w, c) with 1 to 4 channels"
        )
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # a row begins with its filter: 0
    rows[:, 1:] = picture.reshape(height, -1)
    pixels = zlib.compress(rows.data, level)
    return _header(height, width, channels) + _chunk(b"IDAT", pixels) + _end()


def decode_png(png: Blob) -> UInt8[np.ndarray, "h w c"]:
    """In the file's own channels: 1 grey, 2 grey + alpha, 3 RGB, 4 RGBA; palettes become RGB(A)."""
    png = bytes(png)
    _check_chunks(png)
    for channels in _COLOUR_TYPES:
        shape = (*promised_size(png), channels)
        if (rows := _rows_of_our_layout(png, shape)) is not None:
            return rows[:, 1:].reshape(shape)
    return _decode_with_pillow(png)


def decode_png_into(png: Blob, out: UInt8[np.ndarray, "h w c"]) -> None:
    """Fills `out`; a PNG that is damaged or holds a picture of another shape is a ValueError."""
    png = bytes(png)
    rows = _rows_of_our_layout(png, out.shape)
    if rows is not None:
        out[:] = rows[:, 1:].reshape(out.shape)
        return
    _check_chunks(png)
    if (size := promised_size(png)) != out.shape[:2]:
        raise ValueError(f"the PNG promises {size[0]}×{size[1]} pixels, expected {out.shape}")
    picture = _decode_with_pillow(png)
    if picture.shape != out.shape:
        raise ValueError(f"the PNG holds a picture of shape {picture.shape}, expected {out.shape}")
    out[:] = picture


def promised_size(png: bytes) -> tuple[int, int]:
    """Height and width, as the header has them."""
    width, height = struct.unpack(">II", png[16:24])
    return height, width


def _rows_of_our_layout(png: bytes, shape: tuple[int, ...]) -> UInt8[np.ndarray, "h n"] | None:
    """Each row after its filter byte; None where this is not a sound PNG of our layout."""
    height, width, channels = shape
    size, end = len(png) - _AROUND_PIXELS, len(png) - 16
    sound = (
        size > 0
        and png[:33] == _header(height, width, channels)
        and png[33:41] == size.to_bytes(4) + b"IDAT"
        and png[end:] == zlib.crc32(png[37:end]).to_bytes(4) + _end()
    )
    if not sound:
        return None
    row = 1 + width * channels
    inflater = isal_zlib.decompressobj()
    try:
        # A byte too many: it sees the end, and what goes on beyond it.
        rows = inflater.decompress(png[41:end], height * row + 1)
    except (_INFLATE_ERROR, OverflowError):
        return None
    if not inflater.eof or len(rows) != height * row or rows[::row].count(0) != height:
        return None
    return np.frombuffer(rows, np.uint8).reshape(height, row)


def _decode_with_pillow(png: bytes) -> UInt8[np.ndarray, "h w c"]:
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            mode = image.mode
            if mode == "P":
                mode = "RGBA" if "transparency" in image.info else "RGB"
            elif mode == "1":
                mode = "L"
            picture = np.asarray(image.convert(mode))
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, _BOMB) as error:
        raise ValueError(f"the PNG ({len(png)} bytes) is damaged: {error}") from error
    if mode not in _MODES:
        raise ValueError(f"the PNG has mode {mode}, expected one of {_MODES}: save it as one")
    return picture.reshape(*picture.shape[:2], -1)


def _check_chunks(png: bytes) -> None:
    """Pillow skips some checksums, so all are checked here."""
    if png[:8] != _SIGNATURE or png[12:16] != b"IHDR" or len(png) < 33:
        raise ValueError(f"not a PNG: {len(png)} bytes that begin with {png[:8]!r}")
    if png[24] > 8:
        raise ValueError(
            f"the PNG has {png[24]} bits per channel, expected at most 8: save it as 8"
        )
    place, kind = 8, b""
    while kind != b"IEND":
        end = place + 8 + int.from_bytes(png[place : place + 4])
        kind = png[place + 4 : place + 8]
        if end + 4 > len(png):
            raise ValueError(f"the PNG is cut off after {len(png)} bytes, in its chunk {kind!r}")
        if zlib.crc32(png[place + 4 : end]) != int.from_bytes(png[end : end + 4]):
            raise ValueError(f"the PNG is damaged: its chunk {kind!r} fails the checksum")
        place = end + 4


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)


@lru_cache(maxsize=64)
def _header(height: int, width: int, channels: int) -> bytes:
    colour_type = _COLOUR_TYPES.get(channels, 255)
    return _SIGNATURE + _chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour_type, 0, 0, 0)
    )


@lru_cache(maxsize=1)
def _end() -> bytes:
    return _chunk(b"IEND", b"")
