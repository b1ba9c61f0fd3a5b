"""`wm-gym import-minari`: a Minari dataset with pictures, as one of ours."""

from pathlib import Path

from wm_gym.data.minari import MinariSource, load_minari
from wm_gym.programs.importing import bounds_given, import_from


def import_minari(
    dataset: str,
    /,
    out: Path,
    fps: float = 10,
    picture_key: str | None = None,
    low: tuple[float, ...] = (),
    high: tuple[float, ...] = (),
    picture: tuple[int, int] | None = None,
    system: str | None = None,
) -> None:
    """Import a Minari dataset; the same command goes on where a stopped one was.

    Args:
        dataset: Its id in Minari's local store, or its folder.
        out: Where ours goes.
        fps: Control steps a second, which Minari does not know.
        picture_key: Where in a dictionary of observations the pictures are, as outer/inner; without
            it the only ones there are.
        low: What -1 is to stand for in each number of an action; without it the action space's.
        high: What 1 is to stand for.
        picture: Height and width of the pictures; without it at most 128 pixels, larger become 96.
        system: A name for what it is of; without it the environment's id.
    """
    given = bounds_given(low, high)
    loaded = load_minari(dataset)
    import_from(MinariSource(loaded, fps, picture_key, given, picture, system), out)
