"""Episodes on disk as a LeRobotDataset, and random windows of them."""

from wm_gym.data.dataset import Dataset
from wm_gym.data.episode import Episode
from wm_gym.data.spec import DatasetSpec, Fact
from wm_gym.data.store import DatasetWriter
from wm_gym.data.windows import WindowBatch, Windows, prefetch

__all__ = [
    "Dataset",
    "DatasetSpec",
    "DatasetWriter",
    "Episode",
    "Fact",
    "WindowBatch",
    "Windows",
    "prefetch",
]
