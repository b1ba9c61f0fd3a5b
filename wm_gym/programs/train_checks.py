"""What is found wrong with a training run before it begins."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wm_gym.data import Dataset
from wm_gym.programs.train_config import Train
from wm_gym.storage.files import remove_strays
from wm_gym.training.checkpoint import check_learned_from, load_checkpoint

CHECKPOINT = "checkpoint.pt"
LEARN_FROM: Mapping[str, tuple[str, ...]] = {
    "autoencoder": (),
    "global_model": ("autoencoder",),
    "refined": ("autoencoder", "global_model"),
    "heads": ("autoencoder", "global_model", "refined"),
    "eye": ("autoencoder",),
    "local_model": ("autoencoder", "global_model", "refined", "eye"),
}
"""Each part's folder, in the order of training, to those of all parts that it learns from."""


def check_checkpoints(config: Train, dataset: Dataset) -> None:
    """No part that is there, finished or not, may have learned from another dataset."""
    wanted = {"dataset": dataset.hash}
    for part in LEARN_FROM:
        checkpoint = config.out / part / CHECKPOINT
        unused = part == "autoencoder" and config.autoencoder_of is not None
        if checkpoint.exists() and not unused:
            state = load_checkpoint(checkpoint)
            with with_remedy(checkpoint.parent):
                check_learned_from(state.get("learned_from"), wanted)


def remove_half_written(config: Train) -> None:
    """What killed runs were writing into this one's folders."""
    for folder in (config.out, *(config.out / part for part in LEARN_FROM)):
        remove_strays(folder)


@contextmanager
def with_remedy(folder: Path) -> Iterator[None]:
    """An error of this part's checkpoint says what to delete, and what cannot stay without it."""
    try:
        yield
    except ValueError as error:
        later = [folder.parent / part for part, on in LEARN_FROM.items() if folder.name in on]
        stale = " ".join(str(each) for each in [folder, *later] if each.exists())
        raise ValueError(
            f"{folder / CHECKPOINT}: {error}; or, to train anew, delete {stale}"
        ) from error
