"""Any world, shown as the local model's filter sees its frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Float32, UInt8

from wm_gym.envs.latent_filter import LatentFilter
from wm_gym.envs.loading import check_sizes, check_tasks
from wm_gym.envs.world import Noted, SimulatedWorld
from wm_gym.models.world_model import WorldModel


@dataclass(frozen=True, kw_only=True, eq=False)
class LatentState:
    """One system at one moment, and what the filter made of its frames so far."""

    world: Any
    features: Float32[np.ndarray, "f"]
    model: str = ""
    """Fingerprint of the local model; nothing in snapshots of before."""


class LatentWorld:
    """Simulators whose observations are features; all else is as they are."""

    def __init__(self, world: SimulatedWorld, model: WorldModel, *, exact: bool) -> None:
        self.system, self.num_envs = world.system, world.num_envs
        self.ends, self.waits = world.ends, True
        if model.card.system != self.system.name:
            raise ValueError(
                f"the world model is of {model.card.system!r}, expected {self.system.name!r}"
            )
        check_sizes(model, self.system.frame_shape, self.system.action_size, repr(self.system.name))
        check_tasks(model, self.system)
        if (wanted := model.spec.proprio_size) not in (0, self.system.proprio_size):
            raise ValueError(
                f"the world model knows proprioception of {wanted} numbers, system "
                f"{self.system.name!r} has {self.system.proprio_size}"
            )
        self._world, self._feels = world, model.spec.proprio_size > 0
        self._several = model.spec.tasks > 1
        self._filter = LatentFilter(model.local_model, world.num_envs, exact=exact)

    @property
    def observation_space(self) -> Box:
        return self._filter.space

    def given(self, options: Mapping[str, Any]) -> Any:
        return self._world.given(options)

    def start(
        self, which: Bool[np.ndarray, "b"], rngs: Sequence[np.random.Generator], given: Any
    ) -> None:
        self._world.start(which, rngs, given)
        frames, proprio = self._seen(which)
        task = self._world.task()[which] if self._several else None
        self._filter.begin_at(np.flatnonzero(which), frames, proprio, task)

    def advance(
        self, action: Float32[np.ndarray, "b a"], which: Bool[np.ndarray, "b"]
    ) -> Float[np.ndarray, "b"]:
        reward = self._world.advance(action, which)
        if which.any():
            self._filter.advance(np.flatnonzero(which), action[which], *self._seen(which))
        return reward

    def _seen(
        self, which: Bool[np.ndarray, "b"]
    ) -> tuple[UInt8[np.ndarray, "n h w c"], Float32[np.ndarray, "n p"] | None]:
        return self._world.frames(which), self._world.proprio(which) if self._feels else None

    def observations(self, which: Bool[np.ndarray, "b"]) -> Float32[np.ndarray, "n f"]:
        return self._filter.observations(which)

    def noted(self) -> Noted:
        return self._world.noted()

    def picture(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        return self._world.picture(i)

    def snapshot(self, i: int) -> LatentState:
        return LatentState(
            world=self._world.snapshot(i),
            features=self._filter.snapshot(i),
            model=self._filter.fingerprint,
        )

    def check_snapshot(self, snapshot: Any) -> None:
        if not isinstance(snapshot, LatentState):
            raise TypeError("the snapshot has no features: it is of no latent environment")
        self._filter.check_snapshot(snapshot.features, snapshot.model)
        self._world.check_snapshot(snapshot.world)

    def restore(self, i: int, snapshot: Any) -> None:
        self._world.restore(i, snapshot.world)
        self._filter.restore(i, snapshot.features)
