"""What readers of data that others wrote have in common."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from wm_gym.data.episode import Episode, TooShortError
from wm_gym.data.spec import Fact


@contextmanager
def episode_named(number: int, source: str) -> Iterator[None]:
    """What is wrong with one episode says with which. To be too short is not wrong."""
    try:
        yield
    except (TooShortError, ImportError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"episode {number} of {source}: {error}") from error
    except Exception as error:  # libraries that read files raise of every kind
        raise ValueError(f"episode {number} of {source}: {error}") from error


def first_whole(source: str, episodes: int, read: Callable[[int], Episode]) -> Episode:
    """The first that holds a transition: what all have in common is read off it."""
    for number in range(episodes):
        with suppress(TooShortError), episode_named(number, source):
            return read(number)
    raise ValueError(
        f"{source} has {episodes} episodes, expected at least one of two frames or more"
    )


def facts_of(episode: Episode) -> dict[str, Fact]:
    return {
        name: Fact(dtype=values.dtype.name, shape=values.shape[1:])
        for name, values in episode.facts.items()
    }
