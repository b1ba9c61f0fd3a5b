"""`wm-gym import-lerobot`: a LeRobot v3 dataset that others wrote, as one of ours."""

from pathlib import Path

from wm_gym.data.lerobot_import import Columns, LeRobotSource
from wm_gym.programs.importing import bounds_given, check_numbers, import_from


def import_lerobot(
    folder: Path,
    /,
    out: Path,
    picture_key: str | None = None,
    action_key: str = "action",
    reward_key: str = "next.reward",
    terminated_key: str = "next.done",
    state_key: str = "observation.state",
    low: tuple[float, ...] = (),
    high: tuple[float, ...] = (),
    picture: tuple[int, int] | None = None,
    system: str | None = None,
) -> None:
    """Import a LeRobot v3 dataset, with videos or pictures; the same command goes on.

    Args:
        folder: The dataset's folder, with meta/info.json in it.
        out: Where ours goes.
        picture_key: The camera to learn from; without it the only one there is.
        action_key: The column of actions.
        reward_key: The column of rewards; without such a one there are none.
        terminated_key: The column that says where episodes ended.
        state_key: A column to keep beside the frames, if it is there.
        low: What -1 is to stand for in each number of an action; without it the least in the data.
        high: What 1 is to stand for; without it the greatest.
        picture: Height and width of the pictures; without it at most 128 pixels, larger become 96.
        system: A name for what it is of; without it the robot's type.
    """
    check_numbers(picture)
    columns = Columns(
        picture=picture_key, action=action_key, reward=reward_key, terminated=terminated_key,
        state=state_key,
    )  # fmt: skip
    source = LeRobotSource(folder, columns, bounds_given(low, high), picture, system)
    import_from(source, out)
