"""Human demonstrations of Push-T (Diffusion Policy's zarr layout), as episodes of our system.

The humans gave absolute targets at 10 Hz; our actions are displacements held for two ticks. The
tool is drawn to its target u by a linear controller, which in two ticks takes it from x and v to
u + A (x − u) + B v; so the action that brings it where the human's tool was by then is

    a_k = clip((u − x) / 64 px, −1, 1),    u − x = (x*_{2k+2} − x − B v) / (1 − A)

with x*, the human's tool, and x, v, the tool that is re-simulated under these actions.

What is stored is `Real-PushT-v0` re-simulated from the human's first state, so frames, actions and
labels agree; the human's own states are kept beside them (fact `human_state`), and
`conversion_error` says how far the two come apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import zarr
from jaxtyping import Bool, Float

from wm_gym.data.episode import Episode
from wm_gym.data.spec import DatasetSpec, Fact
from wm_gym.storage.files import plain_file
from wm_gym.systems.pusht.physics import DAMPING, STIFFNESS, SUBSTEP, TICK
from wm_gym.systems.pusht.simulator import REACH, TICKS

STATE_WIDTH = 5


@dataclass(frozen=True, kw_only=True)
class Demonstration:
    """One human episode as it was recorded, one row a tick: tool x, y, block x, y, angle."""

    state: Float[np.ndarray, "t 5"]


def read_demonstrations(path: Path) -> list[Demonstration]:
    """All episodes of a zarr folder, or of a zip of one."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give a zarr folder or a zip of one")
    try:
        group = _open(path)
        state = np.asarray(group["data/state"], np.float64)
        ends = np.asarray(group["meta/episode_ends"]).tolist()
    except Exception as error:
        raise ValueError(
            f"{path} is not a readable zarr with data/state and meta/episode_ends: {error}"
        ) from error
    rows = ends[-1] if ends else 0
    if state.shape != (rows, STATE_WIDTH) or sorted(ends) != ends:
        raise ValueError(
            f"{path}: data/state has shape {state.shape}, expected ({rows}, {STATE_WIDTH}) as "
            "meta/episode_ends says, in rising order"
        )
    return [Demonstration(state=part) for part in np.split(state, ends[:-1])]


def _open(path: Path) -> Any:
    if path.is_dir():
        for file in path.rglob("*"):
            if file.is_symlink() or not file.is_dir():
                plain_file(path, file.relative_to(path))
        return zarr.open_group(path, mode="r")
    return zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")


def human_spec(source: str) -> DatasetSpec:
    return DatasetSpec(
        env_id="Real-PushT-v0",
        fps=5,
        picture=(96, 96, 3),
        action_size=2,
        facts={
            "coverage": Fact(dtype="float64"),
            "state": Fact(dtype="float64", shape=(7,)),
            "contact": Fact(dtype="bool"),
            "human_state": Fact(dtype="float64", shape=(STATE_WIDTH,)),
        },
        robot_type="PushT",
        recipe={"source": source, "conversion": "the human's tool matched at 5 Hz, re-simulated"},
    )


def convert(demonstrations: list[Demonstration]) -> Iterator[Episode]:
    """Re-simulate each under converted actions; those of fewer than two ticks are left out."""
    env = gym.make("Real-PushT-v0", horizon=10**9).unwrapped
    for number, demonstration in enumerate(demonstrations):
        if len(demonstration.state) > TICKS:  # two frames or more
            yield _convert(env, demonstration, number)
    env.close()


def tool_response() -> tuple[float, float]:
    """A and B: where one held action takes the tool, per unit of distance and of velocity."""

    def unfold(x: float, v: float) -> float:
        for _ in range(TICKS * TICK):
            v += (STIFFNESS * -x - DAMPING * v) * SUBSTEP
            x += v * SUBSTEP
        return x

    return unfold(1.0, 0.0), unfold(0.0, 1.0)


def _convert(env: gym.Env[Any, Any], demonstration: Demonstration, number: int) -> Episode:
    stay, coast = tool_response()
    state = demonstration.state[::TICKS]
    obs, info = env.reset(seed=number, options={"state": [*state[0], 0.0, 0.0]})
    frames, infos, actions, rewards = [obs], [info], [], []
    for wanted in state[1:]:
        tool, velocity = info["state"][:2], info["state"][5:]
        away = (wanted[:2] - tool - coast * velocity) / (1 - stay)
        action = np.clip(away / REACH, -1, 1).astype(np.float32)
        obs, reward, _, _, info = env.step(action)
        frames.append(obs)
        infos.append(info)
        actions.append(action)
        rewards.append(reward)
    facts = {name: np.stack([i[name] for i in infos]) for name in ("coverage", "state", "contact")}
    return Episode(
        frames=np.stack(frames),
        action=np.array(actions),
        reward=np.array(rewards, np.float32),
        terminated=False,
        truncated=True,
        facts={**facts, "human_state": state},
        behaviour="human",
        split="human",
        seed=number,
        task="Push the T onto its outline.",
    )


@dataclass(frozen=True, kw_only=True)
class ConversionError:
    """How far the re-simulation is from what the human did, frame by frame."""

    tool: Float[np.ndarray, "n"]
    """Board pixels."""
    block: Float[np.ndarray, "n"]
    angle: Float[np.ndarray, "n"]
    """Degrees."""
    clipped: Bool[np.ndarray, "m"]
    """Of each action: whether the human's target was further than an action reaches."""


def conversion_error(episodes: list[Episode]) -> ConversionError:
    ours = np.concatenate([episode.facts["state"] for episode in episodes])
    theirs = np.concatenate([episode.facts["human_state"] for episode in episodes])
    turn = ours[:, 4] - theirs[:, 4]
    return ConversionError(
        tool=np.linalg.norm(ours[:, :2] - theirs[:, :2], axis=1),
        block=np.linalg.norm(ours[:, 2:4] - theirs[:, 2:4], axis=1),
        angle=np.degrees(np.abs((turn + np.pi) % (2 * np.pi) - np.pi)),
        clipped=np.concatenate([(np.abs(e.action) >= 1).any(1) for e in episodes]),
    )
