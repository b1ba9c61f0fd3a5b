"""`wm-gym import-human`: human Push-T demonstrations as a dataset."""

import hashlib
from pathlib import Path

import numpy as np

from wm_gym.data import Dataset, DatasetWriter
from wm_gym.data.card import card_text, dataset_card
from wm_gym.data.human import conversion_error, convert, human_spec, read_demonstrations
from wm_gym.programs.card import write_card
from wm_gym.programs.importing import print_left_out
from wm_gym.programs.progress import each


def import_human(zarr: Path, /, out: Path) -> None:
    """Import demonstrations in Diffusion Policy's zarr layout; prints what the conversion loses.

    Args:
        zarr: Folder of the demonstrations in zarr format, or a zip of it.
        out: Folder to write the converted dataset into.
    """
    demonstrations = read_demonstrations(zarr)
    states = np.concatenate([demonstration.state for demonstration in demonstrations])
    source = f"{zarr.name}, states {hashlib.sha256(states.tobytes()).hexdigest()[:12]}"
    writer = DatasetWriter(out, human_spec(source))
    done = writer.finished()
    episodes = each(convert(demonstrations), total=len(demonstrations), unit="episode")
    for number, episode in enumerate(episodes):
        if number not in done:
            writer.add(number, episode)
    writer.finalize()
    dataset = Dataset.open(out)
    covered = dataset_card(dataset)
    print(card_text(covered))
    print_left_out(len(demonstrations) - len(dataset), len(demonstrations))
    _print_losses(dataset)
    print(f"card: {write_card(dataset, covered)}")


def _print_losses(dataset: Dataset) -> None:
    error = conversion_error([dataset.episode(i) for i in range(len(dataset))])
    print("re-simulated against recorded   median      90 %      99 %")
    rows = {"tool, px": error.tool, "block, px": error.block, "block, °": error.angle}
    for name, values in rows.items():
        middle, most, nearly_all = np.percentile(values, [50, 90, 99])
        print(f"  {name:<20}{middle:>16.2f}{most:>10.2f}{nearly_all:>10.2f}")
    print(f"  actions out of reach: {error.clipped.mean():.1%}")
