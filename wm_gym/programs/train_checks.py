"""What is found wrong with a training run before it begins."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from wm_gym.data import Dataset
from wm_gym.storage.files import remove_strays
from wm_gym.training.checkpoint import check_learned_from, load_checkpoint
from wm_gym.training.recipe import Recipe, Training

CHECKPOINT = "checkpoint.pt"


def check_checkpoints(recipe: Recipe, config: Training, dataset: Dataset) -> None:
    """No stage that is there, finished or not, may have learned from another dataset."""
    wanted = {"dataset": dataset.hash}
    for stage in recipe.learns_from:
        checkpoint = config.out / stage / CHECKPOINT
        if checkpoint.exists() and stage not in recipe.foreign(config):
            state = load_checkpoint(checkpoint)
            with with_remedy(checkpoint.parent, recipe.learns_from):
                check_learned_from(state.get("learned_from"), wanted)


def remove_half_written(recipe: Recipe, out: Path) -> None:
    """What killed runs were writing into this one's folders."""
    for folder in (out, *(out / stage for stage in recipe.learns_from)):
        remove_strays(folder)


@contextmanager
def with_remedy(folder: Path, learns_from: Mapping[str, tuple[str, ...]]) -> Iterator[None]:
    """An error of this stage's checkpoint says what to delete, and what cannot stay without it."""
    try:
        yield
    except ValueError as error:
        later = [folder.parent / part for part, on in learns_from.items() if folder.name in on]
        stale = " ".join(str(each) for each in [folder, *later] if each.exists())
        raise ValueError(
            f"{folder / CHECKPOINT}: {error}; or, to train anew, delete {stale}"
        ) from error
