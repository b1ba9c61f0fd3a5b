"""The gradient hook: a dream's values, with the gradients of a lighter model at the same states.

    value      o′, r′ of the diffusion model and its frozen heads; what `step` returns, bit for bit
    gradient   of f′ = local.predict(f, a) and of local.reward_of(f′, a), at the true f

f are the features that the local model's filter infers from the frames so far; after each step they
are replaced by what it infers from the dreamt frame (`coupling.swap`), so errors do not add up.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from wm_gym.envs.dream_world import DreamWorld, Moment, Tape
from wm_gym.models.colours import as_colours
from wm_gym.models.coupling import swap
from wm_gym.models.logged import Transitions
from wm_gym.models.surrogate import Surrogate
from wm_gym.models.world_model import WorldState
from wm_gym.types import Info

Gradient = Literal["surrogate", "none", "diffusion"]
Now = tuple[WorldState, Float[Tensor, "b f"]]
"""All dreams, and what the filter makes of the frames so far."""

BATCH = ("obs", "action", "reward", "next_obs")


@dataclass(frozen=True, kw_only=True, eq=False)
class GradStep:
    """One step, as tensors; of a single environment without the leading axis b."""

    obs: Float[Tensor, "*b_obs"]
    """Differentiable; of the new episode, and without gradient, where one was begun."""

    reward: Float[Tensor, "*b"]
    terminated: Bool[Tensor, "*b"]
    truncated: Bool[Tensor, "*b"]
    final_obs: Float[Tensor, "*b_obs"]
    """The differentiable successor before any reset: bootstrap from it."""

    valid: Bool[Tensor, "*b"]
    """False where the step was ignored, as an episode began: not trained on, not counted."""

    info: Info

    def single(self) -> "GradStep":
        """Of one environment, without the leading axis."""
        names = [name for name in self.__dataclass_fields__ if name != "info"]
        return GradStep(**{name: getattr(self, name)[0] for name in names}, info=self.info)


class GradientHook:
    """What `begin_window`, `step_with_grad` and `refresh` of single and vector shells share."""

    def __init__(self, world: DreamWorld, gradient: str) -> None:
        self.world, self.default = world, checked_gradient(gradient)
        self.surrogate = Surrogate(world.model.local_model, world.model.logged)
        self._mode = self.default
        self._before: Now | None = None
        """With the graph of the window."""
        self._left: WorldState | None = None
        """The world's own state as that graph ended: after any other step or reset, it is cut."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_before": None, "_left": None}  # a copy has no past

    def begin_window(self, gradient: str | None) -> Float[Tensor, "b *obs"]:
        self._mode = self.default if gradient is None else checked_gradient(gradient)
        self._before = self._left = None
        every = np.ones(self.world.num_envs, bool)
        return self._numbers(self.world.observations(every))

    def checked(self, action: Any, shape: tuple[int, ...], axes: str) -> Float[Tensor, "*b a"]:
        """Within [−1, 1]; no gradient comes from beyond."""
        if not isinstance(action, Tensor):
            raise TypeError(f"action is a {type(action).__name__}, expected a torch.Tensor")
        if not action.is_floating_point():
            raise TypeError(f"action has dtype {action.dtype}, expected floating point numbers")
        if tuple(action.shape) != shape:
            raise ValueError(f"action has shape {tuple(action.shape)}, expected {shape} = {axes}")
        if not torch.isfinite(action).all():
            raise ValueError(f"action is not finite: {action.tolist()}")
        return action.to(self._device, self._dtype).clamp(-1.0, 1.0)

    @contextmanager
    def recording(self, action: Float[Tensor, "b a"]) -> Iterator[Tape]:
        """Plain steps within leave what a gradient needs."""
        world, mode = self.world, self._mode
        now = self._now()
        self._before = self._before if self._before and self._left is now[0] else now
        tape = Tape(
            action=action if mode == "diffusion" else action.detach(),
            before=self._before if mode == "diffusion" else None,
            filtering=self._latent or mode == "surrogate",
        )
        world.tape = tape
        try:
            with frozen(world.model):
                yield tape
        finally:
            world.tape = None

    def _now(self) -> Now:
        if self._mode == "surrogate":
            self.world.catch_up()
        return self.world.moment()

    def grad_step(
        self,
        tape: Tape,
        action: Float[Tensor, "b a"],
        reset: Bool[np.ndarray, "b"],
        returned: tuple[Any, Any, Any, Any, Info],
    ) -> GradStep:
        """Of what a plain step returned, and recorded on the tape."""
        obs, reward, terminated, truncated, info = returned
        assert tape.stepped is not None
        shown, valid = self._numbers(obs), self._tensor(tape.stepped)
        final_obs, earned = shown, self._numbers(reward)
        now = self._now()
        self._left = now[0]
        if tape.after is None:  # all were begun anew
            self._before = now
        else:
            rows = torch.from_numpy(np.flatnonzero(tape.stepped)).to(shown.device)
            how = {"none": self._plain, "surrogate": self._lent, "diffusion": self._own}
            successor = how[self._mode](tape.after, rows, shown, earned, action, now)
            final_obs, earned = successor.obs, _where(valid, successor.reward, earned)
            begun = self._tensor(reset | ~tape.stepped)
            self._before = _before(begun, now, successor)
            final_obs = _where(valid, final_obs, shown)
            shown = _where(begun, shown, final_obs)
        return GradStep(
            obs=shown,
            reward=earned,
            terminated=self._tensor(terminated),
            truncated=self._tensor(truncated),
            final_obs=final_obs,
            valid=valid,
            info=info,
        )

    def _plain(
        self, after: Moment, rows: Tensor, shown: Tensor, earned: Tensor, action: Tensor, now: Now
    ) -> "_Successor":
        seen = after.features if self._latent else after.frames.to(shown)
        obs = shown.index_copy(0, rows, seen)
        return _Successor(obs=obs, reward=earned, state=now[0], features=now[1])

    def _lent(
        self, after: Moment, rows: Tensor, shown: Tensor, earned: Tensor, action: Tensor, now: Now
    ) -> "_Successor":
        """Values of the dream, gradients of the surrogate."""
        assert self._before is not None
        truth = now[1].index_copy(0, rows, after.features)
        features = swap(truth, self.surrogate.predict(self._before[1], action))
        reward = swap(earned, self.surrogate.reward_of(features, action))
        obs = features
        if not self._latent:
            model = self.world.model
            with frozen(model):
                painted = model.autoencoder.decode(model.local_model.reconstruct(features))
            frames = shown.index_copy(0, rows, after.frames.to(shown))
            obs = swap(frames, as_colours(painted))
        return _Successor(obs=obs, reward=reward, state=now[0], features=features)

    def _own(
        self, after: Moment, rows: Tensor, shown: Tensor, earned: Tensor, action: Tensor, now: Now
    ) -> "_Successor":
        """Gradients through the sampler, the painter and the filter themselves."""
        features = now[1].index_copy(0, rows, after.features)
        obs = features
        if not self._latent:
            seen = swap(after.frames.to(shown), as_colours(after.painted))
            obs = shown.index_copy(0, rows, seen)
        state = WorldState(
            latents=now[0].latents.index_copy(0, rows, after.state.latents),
            action=now[0].action.index_copy(0, rows, after.state.action),
            error=now[0].error.index_copy(0, rows, after.state.error.detach()),
        )
        reward = earned.index_copy(0, rows, after.reward)
        return _Successor(obs=obs, reward=reward, state=state, features=features)

    def refresh(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """One optimiser step of what gives the gradients; nothing that `step` returns changes."""
        if not self._latent:
            raise ValueError("refresh learns from latents: make this one with obs_type='latent'")
        return self.surrogate.refresh(self._transitions(batch))

    def _transitions(self, batch: Mapping[str, Any]) -> Transitions:
        if not isinstance(batch, Mapping) or set(batch) != set(BATCH):
            raise ValueError(f"the batch is {_keys(batch)}, expected a dictionary of {BATCH}")
        config, size = self.surrogate.config, self.world.filter.local_model.feature_size
        last = {"obs": (size,), "action": (config.action_size,), "reward": (), "next_obs": (size,)}
        tensors = {name: self._given(batch[name], f"batch[{name!r}]") for name in BATCH}
        n = max([1, *tensors["action"].shape[:1]])
        for name, tensor in tensors.items():
            if tensor.shape != (n, *last[name]):
                raise ValueError(
                    f"batch[{name!r}] has shape {tuple(tensor.shape)}, expected {(n, *last[name])} "
                    "= (transitions, ...)"
                )
            if not torch.isfinite(tensor).all():
                raise ValueError(f"batch[{name!r}] is not finite")
        return Transitions(
            features=tensors["obs"],
            action=tensors["action"].clamp(-1.0, 1.0),
            reward=tensors["reward"],
            next_features=tensors["next_obs"],
        )

    def _given(self, values: Any, name: str) -> Tensor:
        own = values.copy() if isinstance(values, np.ndarray) else values  # some are read-only
        try:
            return torch.as_tensor(own, dtype=self._dtype, device=self._device).detach()
        except Exception as error:
            raise TypeError(f"{name} is not an array of numbers: {error}") from error

    @property
    def _latent(self) -> bool:
        return self.world.sampling.obs_type == "latent"

    @property
    def _device(self) -> torch.device:
        return self.world.model.device

    @property
    def _dtype(self) -> torch.dtype:
        return self.world.filter.features.dtype

    def _numbers(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=self._dtype, device=self._device)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, device=self._device)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Successor:
    """Before any reset."""

    obs: Tensor
    reward: Tensor
    state: WorldState
    features: Tensor


def _before(begun: Bool[Tensor, "b"], now: Now, successor: _Successor) -> Now:
    """Where the next step goes on from: the new episode's beginning, without gradient, or here."""
    state = WorldState(
        latents=_where(begun, now[0].latents, successor.state.latents),
        action=_where(begun, now[0].action, successor.state.action),
        error=_where(begun, now[0].error, successor.state.error),
    )
    return state, _where(begun, now[1], successor.features)


def _where(
    which: Bool[Tensor, "b"], one: Float[Tensor, "b *n"], other: Float[Tensor, "b *n"]
) -> Float[Tensor, "b *n"]:
    return torch.where(which.view(-1, *[1] * (one.ndim - 1)), one, other)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """No parameter of it takes part in a graph that is built within."""
    learning = [each for each in module.parameters() if each.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def checked_gradient(gradient: str) -> Gradient:
    for known in get_args(Gradient):
        if gradient == known:
            return known
    raise ValueError(f"gradient is {gradient!r}, expected one of {get_args(Gradient)}")


def _keys(batch: Any) -> str:
    return str(sorted(batch)) if isinstance(batch, Mapping) else f"a {type(batch).__name__}"
