"""Frames of videos, at given times."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from wm_gym.data.pixels import check_pixels
from wm_gym.data.rows import damage_named


def read_frames(
    path: Path, times: Float[np.ndarray, "t"], *, fps: float, pixels: int
) -> Iterator[UInt8[np.ndarray, "h w c=3"]]:
    """One for each of these rising times, in seconds; each at most half a frame away, and of at
    most so many pixels."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            "videos are read with PyAV: pip install 'wm-gym[lerobot]', or pip install av"
        ) from error
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; download the dataset again")
    half, wanted = 0.5 / fps, iter(times.tolist())
    time = next(wanted, None)
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.time_base is not None
            _check_size(stream, path, pixels)
            first = max(0, int((float(times[0]) - half) / stream.time_base))
            container.seek(first, stream=stream)  # to a key frame before it
            for frame in container.decode(stream):
                _check_size(frame, path, pixels)
                while time is not None and frame.time is not None and frame.time > time - half:
                    if frame.time >= time + half:
                        break
                    yield frame.to_ndarray(format="rgb24")
                    time = next(wanted, None)
                if time is None or (frame.time or 0.0) >= time + half:
                    break
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path} is no readable video: {error}; download it again") from error
    if time is not None:
        raise ValueError(f"{path} has no frame at {time:.3f} s, within {half:.3f} s")


def _check_size(picture: Any, path: Path, most: int) -> None:
    """Of a stream before it is decoded, and of each frame, as sizes may change on the way."""
    with damage_named(path):
        check_pixels(picture.height, picture.width, most=most)
