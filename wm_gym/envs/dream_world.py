"""n dreams of one world model, stepped together: the world behind dreaming environments."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Float32, Int, UInt8
from torch import Tensor

from wm_gym.envs.batches import computed, finite
from wm_gym.envs.dream_starts import StartSource, given_starts, last_frame, padded
from wm_gym.envs.latent_filter import LatentFilter
from wm_gym.envs.snapshots import check_counts, check_finite
from wm_gym.models.colours import as_colours, to_colour
from wm_gym.models.coupling import swap
from wm_gym.models.fingerprint import check_fingerprint, fingerprint
from wm_gym.models.noise import normal_noise
from wm_gym.models.starts import Start
from wm_gym.models.world_model import WorldModel, WorldState
from wm_gym.systems import System

if hasattr(os, "register_at_fork"):  # a forked worker that asks for OpenMP's threads never returns
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))

PICTURE_SIDE = 480
"""About how tall a picture for people is."""

_STATE = ("latents", "action", "error")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a model is run."""

    denoising_steps: int
    deterministic: bool
    obs_type: str
    ends: bool
    """Whether dreams end where the model says so."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DreamState:
    """One dream at one moment, in NumPy: picklable, and the same on every device."""

    latents: Float32[np.ndarray, "k d"]
    action: Float32[np.ndarray, "k0 a"]
    error: float
    features: Float32[np.ndarray, "f"]
    frame: UInt8[np.ndarray, "h w c"]
    coverage: float
    key: int
    step: int
    model: str = ""
    """Fingerprint of the world model; nothing in snapshots of before."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """Some dreams after a step, as tensors; before any reset."""

    state: WorldState
    features: Float[Tensor, "b f"]
    """What the filter makes of the frames so far."""

    painted: Float[Tensor, "b c h w"]
    """In [−1, 1], before colours are rounded."""

    frames: UInt8[Tensor, "b h w c"]
    reward: Float[Tensor, "b"]
    coverage: Float[Tensor, "b"]
    ended: Bool[Tensor, "b"]


@dataclass(kw_only=True, eq=False)
class Tape:
    """A step that is to be differentiated: what is given to it, and what it leaves."""

    action: Float[Tensor, "b a"]
    before: tuple[WorldState, Float[Tensor, "b f"]] | None
    """Where gradients through the diffusion model go on from; None computes none."""

    filtering: bool
    """Whether features are needed."""

    stepped: Bool[np.ndarray, "b"] | None = None
    after: Moment | None = None
    """Of those that were stepped."""


class DreamWorld:
    """n dreams of one world model, stepped together."""

    def __init__(
        self,
        system: System,
        model: WorldModel,
        num_envs: int,
        *,
        sampling: Sampling,
        starts: StartSource,
    ) -> None:
        self.system, self.model, self.num_envs = system, model, num_envs
        self.sampling, self._starts = sampling, starts
        self._sigmas = model.sigmas(sampling.denoising_steps)
        n, zeros = num_envs, partial(torch.zeros, dtype=torch.float32, device=model.device)
        self._state = WorldState(
            latents=zeros(n, model.context, model.latent_size),
            action=zeros(n, model.context - 1, model.action_size),
            error=zeros(n),
        )
        self.filter = LatentFilter(model.local_model, n, exact=sampling.deterministic)
        self._filtering = sampling.obs_type == "latent"
        self._filtered = np.ones(n, bool)
        """Whose filter has seen the last frame."""
        origin = model.card.origin
        self._covers = origin is None or origin.has_coverage
        self._frames = np.zeros((n, *system.frame_shape), np.uint8)
        self._coverage, self._ended = np.zeros(n), np.zeros(n, bool)
        self.ends = sampling.ends and bool(model.heads.config.ends)
        """Whether there can be any end but that of time."""
        self._key, self._step = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.tape: Tape | None = None
        """Of the step that is going on, if it is to be differentiated."""

    @property
    def observation_space(self) -> Box:
        return self.filter.space if self._filtering else self.system.observation_space

    def given(self, options: Mapping[str, Any]) -> list[Start] | None:
        """`options={"frames": ..., "actions": ...}`: real frames to begin from."""
        return given_starts(
            options, self.num_envs, frame_shape=self.system.frame_shape,
            action_size=self.model.action_size,
        )  # fmt: skip

    def start(
        self,
        which: Bool[np.ndarray, "b"],
        rngs: Sequence[np.random.Generator],
        given: list[Start] | None,
    ) -> None:
        chosen = np.flatnonzero(which)
        keys, begun = [], []
        for i in chosen.tolist():  # two numbers an episode, whatever is asked for
            key, pick = rngs[i].integers(2**63), rngs[i].integers(len(self._starts))
            keys.append(key)
            begun.append(self._starts[int(pick)] if given is None else given[i])
        windows = [padded(start, self.model.context) for start in begun]
        shown = [torch.from_numpy(np.stack(each)) for each in zip(*windows, strict=True)]
        with torch.no_grad():
            state = self._computed(self.model.begin, *shown)
            coverage = self._computed(self.model.heads.coverage_of, state.latents[:, -1])
        coverage, _ = finite(chosen, coverage, state.latents)
        if self._filtering:
            seen = begun if given is not None else [last_frame(start) for start in begun]
            self.filter.begin(dict(zip(chosen.tolist(), seen, strict=True)))
        self._key[chosen], self._step[chosen] = keys, 0
        self._frames[chosen] = [start.frames[-1] for start in begun]
        self._coverage[chosen], self._ended[chosen] = coverage, False
        self._state = _placed_state(self._state, chosen, state)
        self._filtered[chosen] = self._filtering

    def advance(
        self, action: Float32[np.ndarray, "b a"], which: Bool[np.ndarray, "b"]
    ) -> Float[np.ndarray, "b"]:
        chosen, reward, tape = np.flatnonzero(which), np.zeros(self.num_envs), self.tape
        if tape is not None:
            tape.stepped = which.copy()
        if not len(chosen):
            return reward
        after = self._advanced(torch.from_numpy(action), chosen, tape)
        earned, coverage, *_ = finite(
            chosen, after.reward, after.coverage, after.state.error, after.state.latents[:, -1],
            after.features,
        )  # fmt: skip
        self._step[chosen] += 1  # nothing has changed before everything is computed
        self._state = _placed_state(self._state, chosen, _detached(after.state))
        self._frames[chosen] = after.frames.cpu().numpy()
        self._coverage[chosen] = coverage
        self._ended[chosen] = after.ended.cpu().numpy() if self.ends else False
        reward[chosen] = earned
        self._filtered[chosen] = self._filters(tape)
        if self._filters(tape):
            features = after.features.detach()
            self.filter.features = _placed(self.filter.features, chosen, features)
        if tape is not None:
            tape.after = after
        return reward

    def _advanced(
        self, action: Float[Tensor, "b a"], chosen: Int[np.ndarray, "n"], tape: Tape | None
    ) -> Moment:
        state, features, through = self._state, self.filter.features, False
        if tape is not None:
            action, through = tape.action, tape.before is not None
            state, features = tape.before or (state, features)
        following = partial(self._next, self._filters(tape))
        with torch.set_grad_enabled(through):
            after: Moment = self._computed(
                following, state.latents[chosen], state.action[chosen], state.error[chosen],
                features[chosen], action[chosen], self._noise(chosen),
            )  # fmt: skip
        return after

    def _filters(self, tape: Tape | None) -> bool:
        return self._filtering or (tape is not None and tape.filtering)

    def _next(
        self,
        filtering: bool,
        latents: Tensor,
        actions: Tensor,
        error: Tensor,
        features: Tensor,
        action: Tensor,
        noise: Tensor,
    ) -> Moment:
        model, state = self.model, WorldState(latents=latents, action=actions, error=error)
        out = model.step(state, action, noise, self._sigmas)
        painted = model.autoencoder.decode(out.state.latents[:, -1])
        frames = to_colour(painted)
        if filtering:
            seen = frames
            if painted.requires_grad:  # straight-through: colours are whole numbers
                seen = swap(frames.to(painted), as_colours(painted))
            features = model.local_model.follow(features, action, model.local_model.eye(seen))
        return Moment(
            state=out.state,
            features=features,
            painted=painted,
            frames=frames,
            reward=out.reward,
            coverage=out.coverage,
            ended=out.ended,
        )

    def catch_up(self) -> None:
        """Let filters see what they have not, as far as the context goes back."""
        behind = np.flatnonzero(~self._filtered)
        if not len(behind):
            return
        latents, action = self._state.latents[behind], self._state.action[behind].cpu().numpy()
        with torch.no_grad():
            painted = self._computed(self.model.decode, latents.flatten(0, 1))
        frames = painted.view(*latents.shape[:2], *painted.shape[1:]).cpu().numpy()
        each = zip(behind.tolist(), frames, action, strict=True)
        self.filter.begin({i: Start(frames=f, action=a) for i, f, a in each})
        self._filtered[behind] = True

    def moment(self) -> tuple[WorldState, Float[Tensor, "b f"]]:
        """What the future depends on, without gradients."""
        return self._state, self.filter.features

    def _noise(self, chosen: Int[np.ndarray, "n"]) -> Float[Tensor, "n d"]:
        device = self.model.device
        key = torch.from_numpy(self._key[chosen]).to(device)
        step = torch.from_numpy(self._step[chosen]).to(device)
        return normal_noise(key, step, self.model.latent_size)

    def _computed(self, function: Any, *tensors: Tensor) -> Any:
        moved = [tensor.to(self.model.device) for tensor in tensors]
        return computed(function, *moved, exact=self.sampling.deterministic)

    def observations(self, which: Bool[np.ndarray, "b"]) -> np.ndarray:
        return self.filter.observations(which) if self._filtering else self._frames[which]

    def coverage(self) -> Float[np.ndarray, "b"]:
        """NaN where nobody logged any: the head has learned nothing."""
        return self._coverage.copy() if self._covers else np.full(self.num_envs, np.nan)

    def ended(self) -> Bool[np.ndarray, "b"]:
        return self._ended.copy()

    def facts(self) -> dict[str, np.ndarray]:
        return {"uncertainty": self._state.error.cpu().numpy().astype(np.float64)}

    def picture(self, i: int) -> UInt8[np.ndarray, "h w c"]:
        factor = max(1, PICTURE_SIDE // self._frames.shape[1])
        return self._frames[i].repeat(factor, axis=0).repeat(factor, axis=1)

    def snapshot(self, i: int) -> DreamState:
        features = self.filter.features[i] if self._filtering else self.filter.features[0, :0]
        return DreamState(
            latents=self._state.latents[i].cpu().numpy().copy(),
            action=self._state.action[i].cpu().numpy().copy(),
            error=float(self._state.error[i]),
            features=features.cpu().numpy().copy(),
            frame=self._frames[i].copy(),
            coverage=float(self._coverage[i]),
            key=int(self._key[i]),
            step=int(self._step[i]),
            model=self._fingerprint,
        )

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.model)

    def check_snapshot(self, snapshot: Any) -> None:
        if not isinstance(snapshot, DreamState):
            raise TypeError("the snapshot is not of a dream")
        expected = {
            "latents": self._state.latents.shape[1:],
            "action": self._state.action.shape[1:],
            "frame": self._frames.shape[1:],
        }
        for name, shape in expected.items():
            if (came := np.shape(getattr(snapshot, name))) != tuple(shape):
                raise ValueError(
                    f"the snapshot has a {name} of shape {came}, expected {tuple(shape)}: "
                    "it is of another world model"
                )
        if self._filtering and np.shape(snapshot.features) != self.filter.features.shape[1:]:
            raise ValueError(
                f"the snapshot has {np.size(snapshot.features)} features, expected "
                f"{self.filter.features.shape[1]}: take it from an environment with "
                "obs_type='latent'"
            )
        if (kind := np.asarray(snapshot.frame).dtype) != np.uint8:
            raise ValueError(f"the snapshot has a frame of {kind}, expected uint8")
        check_finite(snapshot, *_STATE, "features", "coverage")
        check_counts(snapshot, "key", "step")
        check_fingerprint(snapshot.model, self._fingerprint)

    def restore(self, i: int, snapshot: Any) -> None:
        state = WorldState(
            **{name: torch.as_tensor(getattr(snapshot, name))[None] for name in _STATE}
        )
        chosen = np.array([i])
        self._state = _placed_state(self._state, chosen, state)
        if self._filtering:
            features = torch.as_tensor(snapshot.features)[None]
            self.filter.features = _placed(self.filter.features, chosen, features)
        self._filtered[i] = self._filtering
        self._frames[i], self._coverage[i] = snapshot.frame, snapshot.coverage
        self._ended[i] = False
        self._key[i], self._step[i] = snapshot.key, snapshot.step


def _placed_state(base: WorldState, chosen: Int[np.ndarray, "n"], values: WorldState) -> WorldState:
    each = {n: _placed(getattr(base, n), chosen, getattr(values, n)) for n in _STATE}
    return WorldState(**each)


def _placed(base: Tensor, chosen: Int[np.ndarray, "n"], values: Tensor) -> Tensor:
    """A copy of `base` with these rows replaced; what was handed out before does not change."""
    if len(chosen) == len(base):
        return values.to(base)
    return base.index_copy(0, torch.from_numpy(chosen).to(base.device), values.to(base))


def _detached(state: WorldState) -> WorldState:
    return WorldState(**{name: getattr(state, name).detach() for name in _STATE})
