"""Systems of several tasks, their progress, success and proprioception."""

from dataclasses import replace

import numpy as np
import pytest
from two_tasks import GOALS, TwoRings, distance

from wm_gym.systems import DOT, PUSH_T, Task, check_system, task_index
from wm_gym.systems.check import Simulator
from wm_gym.systems.dot import Dot
from wm_gym.systems.registry import TaskSimulator

TASKS = (Task("ring", "Move the disc onto the ring."), Task("corner", "Hide in the corner.", 0.5))
TWO = replace(
    DOT,
    name="TwoGoals",
    simulators={"Real-TwoGoals-v0": "two_tasks:TwoRings"},
    reward=lambda state, action, next_state, task: -distance(next_state, task),
    progress=lambda state, task: np.exp(-distance(state, task) / 100),
    tasks=TASKS,
)


def test_a_system_of_two_tasks_is_right():
    check_system(TWO)
    simulator = TWO.make_simulator()
    assert isinstance(simulator, TaskSimulator)
    assert isinstance(DOT.make_simulator(), Simulator)
    assert not isinstance(DOT.make_simulator(), TaskSimulator)


def test_each_state_is_judged_by_its_own_task():
    states, tasks = np.stack([GOALS[0], GOALS[0], GOALS[1]]), np.array([0, 1, 1])
    progress = TWO.progress_of(states, tasks)
    assert progress[[0, 2]].tolist() == [1, 1]
    assert progress[1] < 0.01
    assert TWO.progress_of(GOALS[1], 1) == 1
    assert TWO.reward_of(states, np.zeros((3, 3)), states, tasks).tolist() == [
        0,
        -distance(GOALS[0], 1),
        0,
    ]
    assert TWO.success_thresholds == (0.9, 0.5)
    assert TWO.success_of(np.array([0.6, 0.6, np.nan]), np.array([0, 1, 1])).tolist() == [
        False, True, False,
    ]  # fmt: skip


def test_a_sentence_alone_is_a_task():
    assert replace(DOT, tasks=("Go.",)).tasks == (Task("Go.", "Go."),)
    assert PUSH_T.tasks[0].description == "Push the T onto its outline."
    for wrong, words in (
        ((1,), "a task is 1"),
        ("Go.", "expected a tuple"),
        ((TASKS[0],) * 2, "each once"),
    ):
        with pytest.raises(ValueError, match=words):
            replace(DOT, tasks=wrong)


def test_tasks_are_found_by_index_name_and_sentence():
    found = [
        task_index(TASKS, wanted)
        for wanted in (1, np.int64(1), "corner", "ring", "Hide in the corner.")
    ]
    assert found == [1, 1, 1, 0, 1]
    for wrong in (2, -1, True, 0.0, "hide", None):
        with pytest.raises(ValueError, match=r"expected 0 to 1 or one of \['ring', 'corner'\]"):
            task_index(TASKS, wrong)


def test_coverage_is_an_alias_of_progress_and_the_last_one_given_holds():
    state = np.array([1.0, 2, 3])
    older = replace(DOT, coverage=lambda state: state[..., 0])
    assert older.progress_of(state) == older.coverage(state) == 1
    newer = replace(older, progress=lambda state: state[..., 1])
    assert newer.progress_of(state) == newer.coverage(state) == 2
    unknown = replace(DOT, progress=None, coverage=None)
    assert np.isnan(unknown.progress_of(np.zeros((4, 3)))).all()
    assert not unknown.success_of(unknown.progress_of(np.zeros((4, 3)))).any()


@pytest.mark.parametrize("system", [DOT, PUSH_T])
def test_proprioception_is_where_the_tool_is(system):
    state = np.arange(2.0 * len(system.state_names)).reshape(2, -1)
    felt = system.proprio_of(state)
    assert (felt.dtype, felt.shape) == (np.float32, (2, system.proprio_size))
    assert felt.tolist() == state[:, :2].tolist()
    assert system.proprio_names == ("x", "y")


class Deaf(TwoRings):
    def restore(self, snapshot):
        Dot.restore(self, snapshot[:-1])


class Untold(Dot):
    pass


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"simulators": {"Real-B-v0": f"{__name__}:Untold"}}, r"lacks set_task.task., as .* 2"),
        ({"simulators": {"Real-B-v0": f"{__name__}:Deaf"}}, "task 0: restore.. changed the frame"),
        ({"progress": lambda s, task: np.exp(-distance(s, task.flat[0]) / 100)}, "task that each"),
        ({"progress": lambda s, task: np.float64(0.5)}, r"has shape \(\), expected \(13,\)"),
        ({"reward": lambda s, a, n, task: -distance(n, task).sum()}, "one row for each state"),
        ({"success_threshold": 1.0}, "task 'ring': is never done: .* is 1.0, expected less"),
        ({"proprioception": lambda s: s}, r"of shape \(2,\)"),
        ({"proprioception": lambda s: s[..., :2] * np.nan}, "expected finite numbers"),
    ],
)
def test_what_is_wrong_with_tasks_is_said(changes, words):
    with pytest.raises(AssertionError, match=words):
        check_system(replace(TWO, **changes))


def test_names_come_with_proprioception():
    with pytest.raises(ValueError, match="expected both or neither"):
        replace(DOT, proprio_names=())
    with pytest.raises(ValueError, match="has no proprioception"):
        replace(DOT, proprioception=None, proprio_names=()).proprio_of(np.zeros(3))
