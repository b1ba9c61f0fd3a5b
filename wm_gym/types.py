"""The axis legend of every annotated array in the package, and the types that all layers share.

b  batch (environments or windows)      t  time, first in rollouts: (t, b, ...)
a  action                               k  context
p  proprioception
h w c  picture, channels last outside the networks          s  true state of a real system
n  any other count, named where it appears
"""

from typing import Any, Final, TypeAlias

Info: TypeAlias = dict[str, Any]
"""What Gymnasium calls `info`: NumPy and Python values only."""

PIXELS: Final = "pixels"
PROPRIO: Final = "agent_pos"
"""What observations that are dictionaries call the picture and proprioception, as LeRobot does."""
