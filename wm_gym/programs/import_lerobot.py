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
        folder: Folder of the LeRobot dataset, with meta/info.json in it.
        out: Folder to write the converted dataset into.
        picture_key: Column of the camera to learn from; without it the only one there is.
        action_key: Column of the actions.
        reward_key: Column of the rewards; without such a column there are none.
        terminated_key: Column that says where episodes ended by themselves.
        state_key: Column of proprioception to keep beside the frames, if there is such a one.
        low: What -1 is to stand for in each number of an action; without it the least in the data.
        high: What 1 is to stand for in each number; without it the greatest in the data.
        picture: Height and width to resize pictures to; without it large ones become 96 pixels.
        system: Name for the robot or environment; without it the dataset's robot type.
    """
    check_numbers(picture)
    columns = Columns(
        picture=picture_key, action=action_key, reward=reward_key, terminated=terminated_key,
        state=state_key,
    )  # fmt: skip
    source = LeRobotSource(folder, columns, bounds_given(low, high), picture, system)
    import_from(source, out)
