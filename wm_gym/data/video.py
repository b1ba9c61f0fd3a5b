"""Frames of videos, at given times."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8


def read_frames(
    path: Path, times: Float[np.ndarray, "t"], *, fps: float
) -> Iterator[UInt8[np.ndarray, "h w c=3"]]:
    """One for each of these rising times, in seconds; each at most half a frame away."""
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
            first = max(0, int((float(times[0]) - half) / stream.time_base))
            container.seek(first, stream=stream)  # to a key frame before it
            for frame in container.decode(stream):
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
