"""What importers of others' data have in common."""

from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from wm_gym.data import Dataset, DatasetSpec, DatasetWriter, Episode
from wm_gym.data.card import card_text, dataset_card
from wm_gym.programs.card import write_card
from wm_gym.systems import Bounds


class Source(Protocol):
    def __len__(self) -> int:
        """Episodes."""

    @property
    def bounds(self) -> Bounds | None: ...

    @property
    def beyond(self) -> float: ...

    def spec(self) -> DatasetSpec: ...

    def episode(self, i: int) -> Episode: ...


def import_from(source: Source, out: Path) -> None:
    """All episodes that are not there yet; prints what came of it."""
    writer = DatasetWriter(out, source.spec())
    there = writer.finished()
    for number in tqdm(range(len(source)), unit="episode", desc=str(out), disable=None):
        if number not in there:
            writer.add(number, source.episode(number))
    writer.finalize()
    dataset = Dataset.open(out)
    print(card_text(dataset_card(dataset)))
    if source.bounds is not None:
        edges = zip(source.bounds.low, source.bounds.high, strict=True)
        print("  -1 and 1 stand for " + ", ".join(f"{low:g} to {high:g}" for low, high in edges))
    if source.beyond:
        print(f"  {source.beyond:.1%} of the actions lay beyond that, and were clipped")
    if not dataset.spec.has_reward:
        print("  no rewards: a dream of this says 0, and its gradient is 0")
    print(f"card: {write_card(dataset)}")


def bounds_given(low: tuple[float, ...], high: tuple[float, ...]) -> Bounds | None:
    """As they came from the command line."""
    return Bounds(low=low, high=high) if low or high else None
