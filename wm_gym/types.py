"""The axis legend of every annotated array in the package, and the types that all layers share.

b  batch (environments or windows)      t  time, first in rollouts: (t, b, ...)
a  action                               k  context
h w c  picture, channels last outside the networks          s  true state of a real system
n  any other count, named where it appears
"""

from typing import Any, TypeAlias

Info: TypeAlias = dict[str, Any]
"""What Gymnasium calls `info`: NumPy and Python values only."""
