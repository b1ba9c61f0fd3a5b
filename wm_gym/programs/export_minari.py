"""`wm-gym export-minari`: a dataset of ours as a Minari dataset."""

from pathlib import Path

from wm_gym.data import Dataset
from wm_gym.data.minari_export import export_minari as export
from wm_gym.programs.progress import Bar


def export_minari(folder: Path, /, dataset: str) -> None:
    """Write a dataset into Minari's local store (MINARI_DATASETS_PATH, or ~/.minari/datasets).

    Args:
        folder: Folder of the dataset to convert.
        dataset: Id that it gets there, such as mine/pendulum/random-v0.
    """
    ours = Dataset.open(folder)
    with Bar(total=len(ours), unit="episode") as bar:
        theirs = export(ours, dataset, progress=bar.update)
    print(f"{dataset}: {theirs.total_episodes} episodes, {theirs.total_steps} steps")
