"""What `wm-gym play` plays: a real system and its dream under the same actions; no window."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from wm_gym.envs.dream import DreamEnv
from wm_gym.envs.episodes import EnvState
from wm_gym.envs.real import RealEnv
from wm_gym.evaluation.probes import probe_of
from wm_gym.systems import System
from wm_gym.types import PROPRIO


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One of the two at one moment."""

    frame: UInt8[np.ndarray, "h w c"]
    progress: float | None
    """None where nobody logged any."""

    reward: float | None
    """Of the step that led here: none at a start."""

    uncertainty: float | None
    """Of a dream."""

    tool: tuple[float, float] | None
    """Where it is, as a share of the picture's width and height."""

    felt: Float[np.ndarray, "p"] | None = None
    """Proprioception, of a real system that has any."""

    over: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """Both at one moment."""

    action: Float[np.ndarray, "a"]
    """That led here."""

    real: Side | None
    dream: Side | None
    arrow: Float[np.ndarray, "a"] | None
    """Which action would raise the dream's reward, and by how much; none once it is over."""

    @property
    def over(self) -> bool:
        """Once one of them is."""
        return any(side.over for side in (self.real, self.dream) if side is not None)


@dataclass(frozen=True, kw_only=True, eq=False)
class Branch:
    """Where one can go back to."""

    seed: int
    """Of its start."""

    real: EnvState | None
    dream: EnvState | None
    scenes: tuple[Scene, ...]


class Session:
    """Both start at what the real system shows; a dream without one starts as it likes."""

    def __init__(
        self, real: RealEnv | None, dream: DreamEnv | None, *, seed: int = 0, arrow_steps: int = 1
    ) -> None:
        either = dream if real is None else real
        assert either is not None
        self._real, self._dream, self._arrow_steps = real, dream, arrow_steps
        self.system: System = either.system
        self.names = {"real": _name(real), "dream": _name(dream)}
        self._probe = probe_of(self.system)
        self.scenes: list[Scene] = []
        """Since the start."""
        self.left: list[Scene] = []
        """How it went on after the branch, before one went back."""
        self.branch: Branch | None = None
        self.best: dict[str, float] = {}
        """Progress of each side, over all that was played."""
        self.restart(seed)

    @property
    def now(self) -> Scene:
        return self.scenes[-1]

    @property
    def unit(self) -> str:
        """Of the dream's uncertainty."""
        return "" if self._dream is None else self._dream.world_model.kind.unit

    @property
    def steps(self) -> int:
        """Since the start."""
        return len(self.scenes) - 1

    def restart(self, seed: int) -> None:
        """Both at the start that this seed draws."""
        self.seed = seed
        real = dream = None
        if self._real is not None:
            obs, info = self._real.reset(seed=seed)
            real = self._real_side(obs, info, None)
        if self._dream is not None:
            _, info = self._dream.reset(seed=seed, options=None if real is None else shown([real]))
            dream = self._dream_side(info, None, real)
        still = np.zeros(self.system.action_size, np.float32)
        self.scenes, self.left = [self._scene(still, real, dream)], []

    def step(self, action: Float[np.ndarray, "a"]) -> None:
        """The same action for both; nothing happens once one of them is over."""
        if self.now.over:
            return
        real = dream = None
        if self._real is not None:
            obs, reward, terminated, truncated, info = self._real.step(action)
            real = self._real_side(obs, info, reward, over=terminated or truncated)
        if self._dream is not None:
            _, reward, terminated, truncated, info = self._dream.step(action)
            dream = self._dream_side(info, reward, real, over=terminated or truncated)
        self.scenes.append(self._scene(np.array(action), real, dream))

    def save(self) -> None:
        """Remember this moment, to go back to as often as one likes."""
        self.branch = Branch(
            seed=self.seed,
            real=None if self._real is None else self._real.get_state(),
            dream=None if self._dream is None else self._dream.get_state(),
            scenes=tuple(self.scenes),
        )
        self.left = []

    def back(self) -> None:
        """To the moment that was saved; the same actions then have the same future."""
        assert self.branch is not None
        self.seed = self.branch.seed
        if self._real is not None:
            self._real.set_state(self.branch.real)
        if self._dream is not None:
            self._dream.set_state(self.branch.dream)
        same = self.scenes[: len(self.branch.scenes)] == list(self.branch.scenes)
        self.left = self.scenes[len(self.branch.scenes) - 1 :] if same else []
        self.scenes = list(self.branch.scenes)

    def resync(self) -> None:
        """Let the dream go on from what the real system has shown so far."""
        assert self._dream is not None
        real = [scene.real for scene in self.scenes if scene.real is not None]
        still = np.zeros(self.system.action_size)
        options = {**shown(real), "actions": np.stack([still, *self._actions()])[1:]}
        _, info = self._dream.reset(options=options)
        dream = self._dream_side(info, None, self.now.real)
        self.scenes[-1] = self._scene(self.now.action, self.now.real, dream)

    def close(self) -> None:
        for env in (self._real, self._dream):
            if env is not None:
                env.close()

    def _actions(self) -> list[np.ndarray]:
        return [scene.action for scene in self.scenes[1:]]

    def _scene(self, action: np.ndarray, real: Side | None, dream: Side | None) -> Scene:
        scene = Scene(action=action, real=real, dream=dream, arrow=None)
        return scene if scene.over or dream is None else replace(scene, arrow=self._arrow())

    def _arrow(self) -> Float[np.ndarray, "a"] | None:
        if self._dream is None or not self._arrow_steps:
            return None
        return reward_slope(self._dream, self._arrow_steps)

    def _real_side(
        self, obs: np.ndarray, info: dict[str, Any], reward: float | None, *, over: bool = False
    ) -> Side:
        self._note("real", info)
        return Side(
            frame=obs,
            progress=info.get("progress"),
            reward=reward,
            uncertainty=None,
            tool=tool_at(self.system, info["state"]),
            felt=self.system.proprio_of(info["state"]) if self.system.proprio_size else None,
            over=over,
        )

    def _dream_side(
        self,
        info: dict[str, Any],
        reward: float | None,
        real: Side | None,
        *,
        over: bool = False,
    ) -> Side:
        """Where the tool is, is read off the picture, or else as in the real system."""
        assert self._dream is not None
        self._note("dream", info)
        frame, tool = self._dream.get_state().world.frame, None
        if self._probe is not None:
            tool = tool_at(self.system, self._probe.read_state(frame[None]).state[0])
        elif real is not None:
            tool = real.tool
        return Side(
            frame=frame,
            progress=info.get("progress"),
            reward=reward,
            uncertainty=info["uncertainty"],
            tool=tool,
            over=over,
        )

    def _note(self, side: str, info: dict[str, Any]) -> None:
        if "best_progress" in info:
            self.best[side] = max(self.best.get(side, 0.0), info["best_progress"])


def shown(sides: Sequence[Side]) -> dict[str, np.ndarray]:
    """What a dream begins from, but for the actions in between; one that feels nothing of itself
    does not ask what was felt."""
    told = {"frames": np.stack([side.frame for side in sides])}
    felt = [side.felt for side in sides if side.felt is not None]
    return {**told, PROPRIO: np.stack(felt)} if felt else told


def reward_slope(dream: DreamEnv, steps: int) -> Float[np.ndarray, "a"]:
    """∂(r₁ + … + r_k)/∂a of one action held for k steps, at a = 0; the dream stays where it is.

    About standing still: there the slope points at what the real system would reward more often
    than about the action of the moment, and no better over more steps (LOG).
    """
    state = dream.get_state()
    held = torch.zeros(dream.system.action_size, requires_grad=True)
    total = torch.zeros(())
    dream.begin_window()
    for _ in range(steps):
        out = dream.step_with_grad(held)
        total = total + out.reward.cpu()
        if out.terminated or out.truncated:
            break
    dream.set_state(state)
    return torch.autograd.grad(total, held)[0].numpy()


WAYS = {"d": (1.0, 0.0), "a": (-1.0, 0.0), "s": (0.0, 1.0), "w": (0.0, -1.0)}


def drawn(system: System, action: Float[np.ndarray, "a"]) -> tuple[float, float]:
    """Which way it goes in a picture, right and down: where W A S D are on a keyboard."""
    steered = list(zip(action.tolist(), system.steering, strict=False))
    x, y = (sum(more * WAYS.get(key, (0.0, 0.0))[i] for more, key in steered) for i in range(2))
    return x, y


def tool_at(system: System, state: Float[np.ndarray, "s"]) -> tuple[float, float] | None:
    """As a share of the picture's width and height; None where the record does not say."""
    if system.tool is None:
        return None
    x, y = (float(state[system.state_names.index(name)]) for name in system.tool.position)
    width, height = system.tool.board
    return x / width, y / height


def _name(env: RealEnv | DreamEnv | None) -> str:
    return "" if env is None or env.spec is None else env.spec.id
