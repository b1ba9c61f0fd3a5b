"""FoG: first-order gradients of a policy's return, through any differentiable environment."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fog_agent import saving
from fog_agent.config import FoGConfig
from fog_agent.experience import FIELDS, Experience
from fog_agent.learner import Learner
from fog_agent.learning import Callbacks, Logger
from fog_agent.protocol import DifferentiableEnv, LightModel
from fog_agent.spaces import Spaces, as_batch
from fog_agent.value_audit import ValueAudit
from fog_agent.window import Window, roll

PATIENCE = 20
"""Updates in a row without a finite gradient, after which there is no hope."""


@dataclass(frozen=True, kw_only=True)
class Update:
    """One window, and what was learned from it."""

    samples: int
    """Transitions of the environment so far."""

    local_samples: int
    """Transitions of the local model alone so far."""

    gradient_steps: int
    seconds: float
    """Of work so far, without what a caller does between updates."""

    reward: float
    """A step's, of this window."""

    diagnostics: dict[str, float]
    pull: tuple[float, ...]
    """How strongly the window's objective pulls at each of its observations, from the second."""


class FoG:
    """Learns like Stable-Baselines3's agents are told to, from an environment's own gradients."""

    def __init__(
        self,
        env: DifferentiableEnv | None,
        config: FoGConfig | None = None,
        *,
        tensorboard_log: str | Path | None = None,
    ) -> None:
        """Without an environment there must be a policy to load: see `load`."""
        if env is None:
            raise ValueError("env is None, expected an environment; FoG.load needs none")
        self._begin(Spaces.of(env), config or FoGConfig())
        self.set_env(env)
        self.logger = Logger(tensorboard_log)

    def _begin(self, spaces: Spaces, config: FoGConfig) -> None:
        self.spaces, self.config = spaces, config
        self.env: DifferentiableEnv | None = None
        self.learner = Learner(config, spaces)
        self.num_timesteps = self.local_samples = self.gradient_steps = 0
        self.seconds = 0.0
        self.experience: Experience | None = None
        self.audit: ValueAudit | None = None
        self.recent: list[tuple[Tensor, Tensor]] = []
        self._skipped = 0
        self._value_bias = math.nan
        self._exploring = torch.Generator().manual_seed(config.seed)
        self.logger = Logger(None)

    @property
    def observation_space(self) -> Any:
        return self.spaces.observation

    @property
    def action_space(self) -> Any:
        return self.spaces.action

    def get_env(self) -> DifferentiableEnv | None:
        return self.env

    def get_vec_normalize_env(self) -> None:
        """What callbacks of Stable-Baselines3 ask for: the agent normalises by itself."""

    def set_env(self, env: DifferentiableEnv) -> None:
        """Another one of the same spaces; its first episodes begin as learning goes on."""
        self.spaces.check(env, look_ahead=self.config.look_aheads > 0)
        if self.config.experience < env.num_envs:
            raise ValueError(
                f"experience is {self.config.experience}, expected at least one transition for "
                f"each of {env.num_envs} environments"
            )
        self.env = env
        self.audit = None

    # -------------------------------------------------------------------------------- learning

    def learn(
        self,
        total_timesteps: int,
        callback: Any = None,
        progress_bar: bool = False,
        *,
        log_interval: int = 1,
    ) -> "FoG":
        """`total_timesteps` more samples; called again, it goes on.

        `callback`: functions of an `Update`, of which one that returns False ends it; or callbacks
        of Stable-Baselines3.
        """
        callbacks = Callbacks(callback, self, total_timesteps, bar=progress_bar)
        with callbacks:
            for number, update in enumerate(self.updates(total_timesteps)):
                if number % log_interval == 0:
                    self.logger.write(update)
                if not callbacks.go_on(update):
                    break
        return self

    def updates(self, total_timesteps: int) -> Iterator[Update]:
        """Learn, a window at a time; whoever calls logs, saves and stops, between any two."""
        if total_timesteps < 1:
            raise ValueError(f"total_timesteps is {total_timesteps}, expected at least 1")
        env = self._ready()
        until = self.num_timesteps + total_timesteps
        while self.num_timesteps < until:
            begun = time.perf_counter()
            window, diagnostics = self._update(env)
            self.seconds += time.perf_counter() - begun
            yield Update(
                samples=self.num_timesteps, local_samples=self.local_samples,
                gradient_steps=self.gradient_steps, seconds=self.seconds,
                reward=float(window.reward.mean()), diagnostics=diagnostics,
                pull=tuple(window.pull[1:]),
            )  # fmt: skip

    def _ready(self) -> DifferentiableEnv:
        if self.env is None:
            raise ValueError("there is no environment to learn in: set_env(env) first")
        if self.audit is None:
            self.env.reset(seed=self.config.seed + self.num_timesteps)  # no episode twice
            like = self.env.begin_window()
            self._move(like.device)
            self.audit = ValueAudit(self.env.num_envs, like)
            if self.experience is None:
                sizes = self.spaces.obs_size, self.spaces.action_size
                self.experience = Experience(self.config.experience, *sizes, like)
            if not self.learner.normaliser.count:
                self.learner.normaliser.see(like)
        return self.env

    def _move(self, device: torch.device) -> None:
        self.learner.to(device)
        for each in self.learner.optimisers.values():
            each.load_state_dict(each.state_dict())  # moments follow their weights
        self.recent = [(obs.to(device), target.to(device)) for obs, target in self.recent]
        if self.experience is not None:
            rows = self.experience.rows
            self.experience.rows = {name: values.to(device) for name, values in rows.items()}

    def _update(self, env: DifferentiableEnv) -> tuple[Window, dict[str, float]]:
        c, learner = self.config, self.learner
        assert self.experience is not None
        learner.set_rates(self.num_timesteps)
        learner.normaliser.take()
        noise = learner.noise(c.window, env.num_envs)
        grown = roll(env, learner.act, noise)
        _check_finite(grown)
        learner.set_scales(grown.reward, grown.log_prob)
        norm, objective = learner.climb_window(grown)
        window = grown.detached()
        del grown
        learner.steer_temperature(window.log_prob)
        told = {
            "actor_norm": norm, "objective": float(objective.mean()),
            "temperature": float(learner.temperature), "entropy": -float(window.log_prob.mean()),
            "saturated": learner.actor.saturated(window.action),
        }  # fmt: skip
        self._audit(window, told)
        target = learner.targets(window)
        self.recent = [
            *self.recent, (window.obs.flatten(0, 1), target.flatten())
        ][-c.critic_windows :]  # fmt: skip
        obs, regressed = (torch.cat(each) for each in zip(*self.recent, strict=True))
        told["critic_error"], told["critic_norm"] = learner.regress(obs, regressed)
        self._remember(window)
        self._refresh(env, told)
        if c.look_aheads:
            model: LightModel = env.surrogate  # type: ignore[attr-defined]
            told["look_ahead_norm"] = learner.look_ahead(model, self.experience)
        learner.critics.follow()
        self._count(window)
        self._guard(norm, told["critic_norm"], told.get("look_ahead_norm", 0.0))
        told["skipped"] = float(self._skipped)
        return window, told

    def _remember(self, window: Window) -> None:
        assert self.experience is not None
        flat = {name: getattr(window, name).flatten(0, 1) for name in FIELDS}
        self.experience.add(
            {name: rows[-self.experience.capacity :] for name, rows in flat.items()}
        )
        self.learner.normaliser.see(flat["obs"])

    def _refresh(self, env: DifferentiableEnv, told: dict[str, float]) -> None:
        """The local model learns from what the policy did of late in the global model."""
        assert self.experience is not None
        for _ in range(self.config.refreshes):
            batch = self.experience.draw(
                self.config.refresh_batch, last=self.config.refresh_recent, rng=self.learner.rng
            )
            said = env.refresh(batch)
            told.update({f"refresh/{name}": float(value) for name, value in said.items()})

    @torch.no_grad()
    def _audit(self, window: Window, told: dict[str, float]) -> None:
        assert self.audit is not None
        learner = self.learner
        value = [
            learner.critics.mean(learner.normaliser(obs)) for obs in (*window.obs[1:], window.after)
        ]
        final = [learner.critics.mean(learner.normaliser(obs)) for obs in window.next_obs]
        worth = learner.worth(window.reward, window.log_prob)
        ended = [
            self.audit.step(
                worth[t], final[t], value[t], window.terminated[t], window.truncated[t],
                gamma=self.config.gamma,
            )
            for t in range(len(worth))
        ]  # fmt: skip
        bias = torch.cat(ended)
        if len(bias):
            self._value_bias = float(bias.mean())
        told["value_bias"] = self._value_bias

    def _count(self, window: Window) -> None:
        c = self.config
        self.num_timesteps += window.reward.numel()
        self.local_samples += c.look_aheads * c.look_ahead_steps * c.look_ahead_batch
        self.gradient_steps += 1 + int(c.entropy) + c.critic_updates + c.refreshes + c.look_aheads

    def _guard(self, *norms: float) -> None:
        """Updates by gradients that are not finite were left out; too many of them are an error."""
        self._skipped = self._skipped + 1 if any(map(math.isnan, norms)) else 0
        if self._skipped >= PATIENCE:
            raise FloatingPointError(
                f"no finite gradient in the last {PATIENCE} windows (their norms now: {norms}); "
                "look at the environment's rewards and gradients, and at the learning rates"
            )

    # -------------------------------------------------------------------------------- acting

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = True,
    ) -> tuple[np.ndarray, Any]:
        """Actions for one observation or a batch of them, and the state that was given."""
        batch, single = as_batch(observation, self.spaces)
        device = self.learner.reward_scale.device
        x = torch.from_numpy(batch).to(device)
        with torch.no_grad():
            x = self.learner.normaliser(x)
            if deterministic:
                action = self.learner.actor.best(x)
            else:
                shape = (len(x), self.spaces.action_size)
                noise = torch.randn(shape, generator=self._exploring).to(device)
                action = self.learner.actor(x, noise).action
        box = self.spaces.action
        acted = np.clip(action.cpu().numpy(), box.low, box.high).astype(box.dtype)
        return (acted[0] if single else acted), state

    # -------------------------------------------------------------------------------- keeping

    def save(self, path: str | Path, *, policy_only: bool = False) -> Path:
        """One file, written whole or not at all; by it learning goes on exactly where it was.

        `policy_only` leaves out what only learning needs.
        """
        return saving.save(self, Path(path), policy_only=policy_only)

    @classmethod
    def load(
        cls,
        path: str | Path,
        env: DifferentiableEnv | None = None,
        *,
        tensorboard_log: str | Path | None = None,
    ) -> "FoG":
        """A saved file, or a packaged name; with an environment, to learn on in it."""
        agent = saving.load(cls, path, env)
        agent.logger = Logger(tensorboard_log)
        return agent


def _check_finite(window: Window) -> None:
    for name in ("next_obs", "reward"):
        if not torch.isfinite(getattr(window, name)).all():
            raise FloatingPointError(
                f"the environment returned a {name} that is not finite; nothing was learned from it"
            )
