"""What a dataset tells of the system that it was logged from."""

from wm_gym.data.dataset import Dataset
from wm_gym.systems import Origin
from wm_gym.systems.origin import LONGEST_TEXT, registered_as_logged


def origin_of(dataset: Dataset) -> Origin | None:
    """What a dream needs to know of a system that nobody registered, or not as it was logged:
    resized, or with actions that are held."""
    spec = dataset.spec
    tasks = tuple(task[:LONGEST_TEXT] for task in dataset.tasks)
    origin = Origin(
        fps=spec.fps,
        horizon=int(dataset.index["length"].max()) - 1,
        task=tasks[0] if len(tasks) > 1 else str(dataset.index["task"][0])[:LONGEST_TEXT],
        has_reward=spec.has_reward,
        has_coverage=spec.progress_fact is not None,
        bounds=spec.bounds,
        tasks=tasks if len(tasks) > 1 else (),
        proprio_names=spec.proprio_names,
    )
    record = registered_as_logged(
        spec.robot_type or "", origin, frame_shape=spec.picture, action_size=spec.action_size
    )
    return origin if record is None or not origin.has_coverage else None
