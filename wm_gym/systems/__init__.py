"""Real systems: the record that describes one, and those that come with the package."""

from wm_gym.systems.check import check_system
from wm_gym.systems.dot import DOT
from wm_gym.systems.origin import Bounds, Origin, system_from
from wm_gym.systems.push_cube import PUSH_CUBE
from wm_gym.systems.pusht import PUSH_T
from wm_gym.systems.registry import (
    Behaviour,
    CheckingSimulator,
    NoisySimulator,
    Pilot,
    Simulator,
    System,
    TaskSimulator,
    Tool,
    packaged_dream,
    register_dream,
    register_system,
    registered_systems,
    system_named,
)
from wm_gym.systems.task import Task, success_of, task_index

for _system in (PUSH_T, PUSH_CUBE, DOT):
    register_system(_system)
register_dream("WM-v0", {})

__all__ = [
    "DOT",
    "PUSH_CUBE",
    "PUSH_T",
    "Behaviour",
    "Bounds",
    "CheckingSimulator",
    "NoisySimulator",
    "Origin",
    "Pilot",
    "Simulator",
    "System",
    "Task",
    "TaskSimulator",
    "Tool",
    "check_system",
    "packaged_dream",
    "register_system",
    "registered_systems",
    "success_of",
    "system_from",
    "system_named",
    "task_index",
]
