"""`wm-gym import-minari`: a Minari dataset with pictures, as one of ours."""

from pathlib import Path

from wm_gym.data.minari import MinariSource, load_minari
from wm_gym.programs.importing import bounds_given, check_numbers, import_from


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
    proprio_key: str | None = None,
) -> None:
    """Import a Minari dataset; the same command goes on where a stopped one was.

    Args:
        dataset: Id of the dataset in Minari's local store, or its folder.
        out: Folder to write the converted dataset into.
        fps: Control steps in a second, which Minari does not know.
        picture_key: Where in a dictionary of observations the pictures are, as outer/inner; without
            it the only ones there are.
        low: What -1 is to stand for in each number of an action; without it the action space's.
        high: What 1 is to stand for in each number; without it the action space's.
        picture: Height and width to resize pictures to; without it large ones become 96 pixels.
        system: Name for the robot or environment; without it the environment's id.
        proprio_key: Where in a dictionary of observations proprioception is, as outer/inner;
            without it what is called agent_pos there.
    """
    check_numbers(picture, fps)
    given = bounds_given(low, high)
    loaded = load_minari(dataset)
    import_from(MinariSource(loaded, fps, picture_key, given, picture, system, proprio_key), out)
