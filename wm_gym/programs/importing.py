"""What importers of others' data have in common."""

from pathlib import Path
from typing import Protocol

from wm_gym.data import Dataset, DatasetSpec, DatasetWriter, Episode
from wm_gym.data.card import card_text, dataset_card
from wm_gym.data.episode import TooShortError
from wm_gym.data.foreign import episode_named
from wm_gym.programs.card import write_card
from wm_gym.programs.progress import each
from wm_gym.systems import Bounds
from wm_gym.systems.origin import rate


class Source(Protocol):
    def __len__(self) -> int:
        """Episodes."""

    @property
    def name(self) -> str: ...

    @property
    def bounds(self) -> Bounds | None: ...

    @property
    def beyond(self) -> float: ...

    @property
    def last_rewards(self) -> int: ...

    def spec(self) -> DatasetSpec: ...

    def episode(self, i: int) -> Episode: ...


def import_from(source: Source, out: Path) -> None:
    """All episodes that are not there yet; prints what came of it."""
    writer = DatasetWriter(out, source.spec())
    there, short = writer.finished(), 0
    for number in each(range(len(source)), unit="episode", desc=str(out)):
        if number in there:
            continue
        try:
            with episode_named(number, source.name):
                episode = source.episode(number)
                writer.spec.check(episode)
        except TooShortError:
            short += 1
        else:
            writer.add(number, episode)
    writer.finalize()
    dataset = Dataset.open(out)
    covered = dataset_card(dataset)
    print(card_text(covered))
    print_left_out(short, len(source))
    _print_losses(source)
    if not dataset.spec.has_reward:
        print("  no rewards: a dream of this says 0, and its gradient is 0")
    print(f"card: {write_card(dataset, covered)}")


def print_left_out(short: int, episodes: int) -> None:
    if short:
        print(f"  {short} of {episodes} episodes left out, as they hold no transition")


def _print_losses(source: Source) -> None:
    bounds, beyond, last = source.bounds, source.beyond, source.last_rewards
    if bounds is not None:
        edges = zip(bounds.low, bounds.high, strict=True)
        print("  -1 and 1 stand for " + ", ".join(f"{low:g} to {high:g}" for low, high in edges))
    if beyond:
        edge = "-1 and 1" if bounds is None else "that"
        print(f"  {beyond:.1%} of the actions lay beyond {edge}, and were clipped")
    if last:
        print(
            f"  {last} of {len(source)} episodes have a reward other than 0 in their last row, "
            "which is left out: what follows it was not recorded"
        )


def check_numbers(picture: tuple[int, int] | None, fps: float | None = None) -> None:
    """As they came from the command line."""
    if fps is not None:
        rate(fps)
    if picture is not None and min(picture) < 1:
        raise ValueError(f"picture is {picture}, expected a height and a width")


def bounds_given(low: tuple[float, ...], high: tuple[float, ...]) -> Bounds | None:
    """As they came from the command line."""
    return Bounds(low=low, high=high) if low or high else None
