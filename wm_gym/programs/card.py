"""`wm-gym card`: what a dataset covers."""

import json
from dataclasses import asdict
from pathlib import Path

from wm_gym.data import Dataset
from wm_gym.data.card import Card, card_text, dataset_card, draw_card
from wm_gym.programs.progress import Bar
from wm_gym.storage.files import atomic_file, remove_strays, write_atomically
from wm_gym.systems import system_named


def card(folder: Path, /, verify: bool = False) -> None:
    """Print what a dataset covers; write its picture and numbers into its folder.

    Args:
        folder: Folder of the dataset.
        verify: Check all files against their hashes first, and say what is damaged.
    """
    dataset = Dataset.open(folder)
    if verify:
        with Bar(desc="verifying") as bar:
            dataset.verify(bar.reach)
        print(f"verified: all {len(dataset)} episodes are intact")
    covered = dataset_card(dataset)
    print(card_text(covered))
    print(f"card: {write_card(dataset, covered)}")


def write_card(dataset: Dataset, covered: Card) -> Path:
    """`card.png` and `card.json` beside the data."""
    names = _state_names(dataset.spec.robot_type)
    remove_strays(dataset.folder)  # of a card whose writer was killed
    with atomic_file(dataset.folder / "card.png") as file:
        draw_card(dataset, names).savefig(file, format="png", dpi=80)
    text = json.dumps(asdict(covered), indent=1)
    write_atomically(dataset.folder / "card.json", text.encode())
    return dataset.folder / "card.png"


def _state_names(system: str | None) -> tuple[str, ...]:
    try:
        return system_named(system or "").state_names
    except ValueError:  # data of an environment that is no registered system
        return ()
