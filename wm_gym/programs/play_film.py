"""Videos of a window: a file a recording, each picture as it is shown."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter


class Film:
    """An mp4 that gets its name once it is whole."""

    def __init__(self, folder: Path, size: tuple[int, int], fps: float) -> None:
        """Of pictures of this width and height."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._part = folder / f".play-{os.getpid()}.mp4"
        self._writer = FFMPEG_VideoWriter(str(self._part), size, fps, threads=1)

    def add(self, picture: UInt8[np.ndarray, "h w c"]) -> None:
        self._writer.write_frame(np.ascontiguousarray(picture))

    def close(self) -> Path:
        """Where it is."""
        self._writer.close()
        number = 1
        while (path := self._folder / f"play-{number}.mp4").exists():
            number += 1
        os.replace(self._part, path)
        return path
