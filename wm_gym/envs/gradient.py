"""The torch door of a dream: the values of `step`, with the gradients of a lighter model.

    value      o′, r′ of the global model; what `step` returns, bit for bit
    gradient   of f′ = local.predict(f, a) and of local.reward_of(f′, a), at the true f

f are the features that the local model's filter infers from the frames so far; after each step they
are replaced by what it infers from the dreamt frame (`coupling.swap`), so errors do not add up.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from wm_gym.envs.dream_world import DreamWorld
from wm_gym.envs.dreams import Dreams, Step
from wm_gym.models import trees
from wm_gym.models.colours import as_colours
from wm_gym.models.coupling import swap
from wm_gym.models.protocol import Surrogate, Transitions
from wm_gym.types import Info

Gradient = Literal["surrogate", "none", "diffusion"]

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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Successor:
    """All dreams before any reset: those that moved are at their next moment."""

    dreams: Dreams
    obs: Float[Tensor, "b *obs"]
    reward: Float[Tensor, "b"]


class GradientHook:
    """What `begin_window`, `step_with_grad` and `refresh` of single and vector shells share."""

    def __init__(self, world: DreamWorld, gradient: str) -> None:
        self.world, self.default = world, checked_gradient(gradient)
        self.surrogate: Surrogate = world.model.local_model.surrogate(world.model.logged)
        self._mode = self.default
        self._before: Dreams | None = None
        """With the graph of the window."""
        self._left: Any = None
        """The world's own state as that graph ended: after any other step or reset, it is cut."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_before": None, "_left": None}  # a copy has no past

    def begin_window(self, gradient: str | None) -> Float[Tensor, "b *obs"]:
        self._check_observations()
        self.world.settle()
        self._mode = self.default if gradient is None else checked_gradient(gradient)
        self._before = self._left = None
        return self.shown(self.world.now).clone()

    def _check_observations(self) -> None:
        if self.world.sampling.obs_type == "dict":
            raise ValueError(
                "observations that are dictionaries have no gradients: make this one with "
                "obs_type='latent', or 'pixels'"
            )

    def checked(self, action: Any, shape: tuple[int, ...], axes: str) -> Float[Tensor, "*b a"]:
        """Within [−1, 1]; no gradient comes from beyond."""
        if not isinstance(action, Tensor):
            raise TypeError(f"action is a {type(action).__name__}, expected a torch.Tensor")
        if not action.is_floating_point():
            raise TypeError(f"action has dtype {action.dtype}, expected floating point numbers")
        if tuple(action.shape) != shape:
            raise ValueError(f"action has shape {tuple(action.shape)}, expected {shape} = {axes}")
        if not self.world.waits:
            self.world.doubt_actions(action.view(self.world.num_envs, -1).to(self._device))
        elif not torch.isfinite(action).all():
            raise ValueError(f"action is not finite: {action.tolist()}")
        return action.to(self._device, self._dtype).clamp(-1.0, 1.0)

    def move(self, action: Float[Tensor, "b a"]) -> "LentMove":
        """Takes the world a step on, and has what its gradient needs."""
        self._check_observations()
        now = self._now()
        before = self._before if self._before is not None and self._left is now.state else now
        return LentMove(self, self._mode, action, before)

    def went(self, after: "_Successor | None", begun: Bool[np.ndarray, "b"]) -> "_Successor":
        """After the resets that followed: where the next step goes on from, and what is seen."""
        now = self._now()
        self._left = now.state
        anew = self.world.mask(begun)
        if after is None:  # none moved
            self._before = now
            shown = self.shown(now).clone()
            return _Successor(dreams=now, obs=shown, reward=shown.new_zeros(len(begun)))
        self._before = trees.where(anew, now, after.dreams)
        obs = _where(anew, self.shown(now), after.obs)
        return _Successor(dreams=self._before, obs=obs, reward=after.reward)

    def _now(self) -> Dreams:
        if self._mode == "surrogate":
            self.world.catch_up()
        return self.world.now

    def shown(self, dreams: Dreams) -> Float[Tensor, "b *obs"]:
        return dreams.features if self.latent else dreams.frames.to(self._dtype)

    def refresh(self, batch: Mapping[str, Any]) -> dict[str, float]:
        """One optimiser step of what gives the gradients; nothing that `step` returns changes."""
        if not self.latent:
            raise ValueError("refresh learns from latents: make this one with obs_type='latent'")
        return self.surrogate.refresh(self._transitions(batch))

    def _transitions(self, batch: Mapping[str, Any]) -> Transitions:
        if not isinstance(batch, Mapping) or set(batch) != set(BATCH):
            raise ValueError(f"the batch is {_keys(batch)}, expected a dictionary of {BATCH}")
        local_model = self.world.model.local_model
        f, a = (local_model.feature_size,), (local_model.action_size,)
        last = {"obs": f, "action": a, "reward": (), "next_obs": f}
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
    def latent(self) -> bool:
        return self.world.filtering

    @property
    def _dtype(self) -> torch.dtype:
        return self.world.now.features.dtype

    @property
    def _device(self) -> torch.device:
        return self.world.model.device


class LentMove:
    """One move of the world (`Episodes.advance`), and afterwards the step with its gradient."""

    def __init__(
        self, hook: GradientHook, mode: Gradient, action: Float[Tensor, "b a"], before: Dreams
    ) -> None:
        self._hook, self._mode, self._action, self._before = hook, mode, action, before
        self._moved = np.zeros(len(action), bool)
        self._took: tuple[Step, Tensor, Dreams] | None = None
        """The step, whose rows these are, and all dreams after it, before any reset."""

    def __call__(self, which: Bool[np.ndarray, "b"]) -> None:
        self._moved = which.copy()
        if not which.any():
            return
        world, through = self._hook.world, self._mode == "diffusion"
        chosen = np.flatnonzero(which)
        rows = world.index(chosen)
        before = world.rows(self._before if through else world.now, chosen)
        acted = world.rows(self._action, chosen)
        with frozen(world.model), torch.set_grad_enabled(through):
            acted = acted if through else acted.detach()
            filtering = self._hook.latent or self._mode == "surrogate"
            step = world.dreamt(before, acted, filtering)
        world.accept(chosen, step, filtered=filtering)
        self._took = step, rows, world.now

    def successor(self) -> _Successor | None:
        """None where nobody moved."""
        if self._took is None:
            return None
        how = {"none": self._plain, "surrogate": self._lent, "diffusion": self._own}
        return how[self._mode](*self._took)

    def step(
        self,
        begun: Bool[np.ndarray, "b"],
        terminated: Bool[np.ndarray, "b"],
        truncated: Bool[np.ndarray, "b"],
        info: Info,
    ) -> GradStep:
        """Of what became of the episodes."""
        valid, ended, cut = map(self._hook.world.mask, (self._moved, terminated, truncated))
        after = self.successor()
        went = self._hook.went(after, begun)
        final_obs = went.obs if after is None else _where(valid, after.obs, went.obs)
        return GradStep(
            obs=went.obs, reward=went.reward, terminated=ended, truncated=cut,
            final_obs=final_obs, valid=valid, info=info,
        )  # fmt: skip

    def _plain(self, step: Step, rows: Int[Tensor, "n"], now: Dreams) -> _Successor:
        obs, reward = self._values(step, rows, now)
        return _Successor(dreams=now, obs=obs, reward=reward)

    def _values(self, step: Step, rows: Int[Tensor, "n"], now: Dreams) -> tuple[Tensor, Tensor]:
        """What `step` returns of all: observations before any reset, and rewards."""
        after = step.dreams
        reward = now.outcome.reward.new_zeros(len(self._moved))
        return self._hook.shown(now), reward.index_copy(0, rows, after.outcome.reward)

    def _lent(self, step: Step, rows: Int[Tensor, "n"], now: Dreams) -> _Successor:
        """Values of the dream, gradients of the surrogate."""
        world, surrogate = self._hook.world, self._hook.surrogate
        obs, earned = self._values(step, rows, now)
        predicted = surrogate.predict(self._before.features, self._action)
        features = swap(now.features, predicted)
        reward = swap(earned, surrogate.reward_of(features, self._action))
        if self._hook.latent:
            obs = features
        else:
            with frozen(world.model):
                obs = swap(obs, as_colours(world.model.picture(features).frames))
        dreams = dataclasses.replace(now, features=features)
        return _Successor(dreams=dreams, obs=obs, reward=torch.where(self._valid, reward, earned))

    def _own(self, step: Step, rows: Int[Tensor, "n"], now: Dreams) -> _Successor:
        """Gradients through the sampler, the painter and the filter themselves."""
        obs, reward = self._values(step, rows, now)
        if self._hook.latent:
            obs = now.features.index_copy(0, rows, step.dreams.features)
        elif step.colours is not None:
            obs = obs.index_copy(0, rows, step.colours)
        return _Successor(dreams=trees.put(now, rows, step.dreams), obs=obs, reward=reward)

    @property
    def _valid(self) -> Bool[Tensor, "b"]:
        return self._hook.world.mask(self._moved)


def _where(
    which: Bool[Tensor, "b"], one: Float[Tensor, "b *n"], other: Float[Tensor, "b *n"]
) -> Float[Tensor, "b *n"]:
    return trees.where(which, one, other)


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
