"""Finding the cube in a picture, as anybody can who knows its colour."""

import numpy as np
from jaxtyping import Bool, UInt8

FEWEST = 4
"""Pixels of it that make it seen."""


def cube_pixels(frame: UInt8[np.ndarray, "*n h w c=3"]) -> Bool[np.ndarray, "*n h w"]:
    """Where a frame shows the cube: hue within 30° of its own, 7.5°, and saturation above a half.
    Nothing else is within 30° of it, however it is lit, and nothing of it is without."""
    red, green, blue = (frame[..., i].astype(np.int16) for i in range(3))
    low = np.minimum(green, blue)
    chroma = red - low
    # hue = 60° (green − blue) / chroma where red is the largest
    tilt = 8 * (green - blue)
    near = (tilt > -3 * chroma) & (tilt < 5 * chroma)
    return (red >= np.maximum(green, blue)) & (2 * chroma > red) & near


def in_view(frame: UInt8[np.ndarray, "*n h w c=3"]) -> Bool[np.ndarray, "*n"]:
    return cube_pixels(frame).sum((-1, -2)) >= FEWEST
