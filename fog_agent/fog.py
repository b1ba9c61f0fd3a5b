"""FoG: first-order gradients of a policy's return, through any differentiable environment."""

import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fog_agent import saving
from fog_agent.abilities import can_terminate, logged_steps, needed_model
from fog_agent.config import FoGConfig
from fog_agent.experience import FIELDS, Experience
from fog_agent.guard import Guard, finite_mean
from fog_agent.learner import Learner
from fog_agent.learning import Callbacks, Logger, Update, check_timesteps
from fog_agent.protocol import DifferentiableEnv
from fog_agent.spaces import Spaces, as_batch
from fog_agent.value_audit import ValueAudit, audit_window
from fog_agent.window import Window, blame, roll


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
        self.num_timesteps = self.local_samples = self.gradient_steps = self.windows = 0
        self.seconds = 0.0
        self.experience: Experience | None = None
        self.audit: ValueAudit | None = None
        self.recent: list[tuple[Tensor, Tensor]] = []
        self.guard = Guard()
        self._surrogate: Any = None  # a saved local model, until there is an environment to take it
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
        """Another one of the same spaces; its first episodes begin as learning goes on.

        A local model that this agent was saved with, and that no environment has yet, goes to it.
        """
        self.check_env(env)
        if self._surrogate is not None:
            saving.lend(self._surrogate, env)
            self._surrogate = None
        self.env = env
        self.audit = None

    def check_env(self, env: DifferentiableEnv) -> None:
        """ValueError or TypeError where it is none to learn in."""
        self.spaces.check(env, look_ahead=self.config.look_aheads > 0)
        if self.config.look_aheads and can_terminate(env):
            warnings.warn(
                "episodes can terminate here, of which look-aheads know nothing: where most do, "
                "FoGConfig(look_aheads=0) is right",
                stacklevel=3,
            )
        if self.config.experience < env.num_envs:
            raise ValueError(
                f"experience is {self.config.experience}, expected at least one transition for "
                f"each of {env.num_envs} environments"
            )

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
        of Stable-Baselines3, whose `on_step` is asked once a window, so that frequencies of theirs
        count windows. TensorBoard is told of every `log_interval`-th.
        """
        if log_interval < 1:
            raise ValueError(f"log_interval is {log_interval}, expected at least 1")
        check_timesteps(total_timesteps)
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
        check_timesteps(total_timesteps)
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
            )  # fmt: skip

    def _ready(self) -> DifferentiableEnv:
        if self.env is None:
            raise ValueError("there is no environment to learn in: set_env(env) first")
        if self.audit is None:
            self.env.reset(seed=self.config.seed + self.num_timesteps)  # no episode twice
            like = self.env.begin_window()
            blame(obs=like)
            self._move(like.device)
            self.audit = ValueAudit(self.env.num_envs, like)
            if self.experience is None:
                sizes = self.spaces.obs_size, self.spaces.action_size
                self.experience = Experience(self.config.experience, *sizes, like)
                self._recall(self.experience, self.env)
            if not self.learner.normaliser.count:
                self.learner.normaliser.see(like)
        return self.env

    def _recall(self, experience: Experience, env: DifferentiableEnv) -> None:
        """Logged steps, the first that are known."""
        logged = logged_steps(env) if self.config.logs else None
        if logged is None:
            return
        experience.add(logged)
        if not self.learner.normaliser.count:
            self.learner.normaliser.see(logged["obs"])

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
        acting = self.windows >= c.head_start
        learner.set_rates(self.num_timesteps)
        learner.normaliser.take()
        grown = roll(env, learner.act, learner.noise(c.window, env.num_envs))
        self.num_timesteps += grown.reward.numel()
        grown.check_finite()
        learner.set_scales(grown.reward, grown.log_prob)
        norms: dict[str, list[float]] = {}
        said = self._climb(grown, norms) if acting else {}
        window = grown.detached()
        del grown
        if acting:
            learner.steer_temperature(window.log_prob)
        said |= {
            "temperature": float(learner.temperature), "entropy": -float(window.log_prob.mean()),
            "saturated": learner.actor.saturated(window.action), "value_bias": self._audit(window),
        }  # fmt: skip
        target = learner.targets(window)
        self.recent = [
            *self.recent, (window.obs.flatten(0, 1), target.flatten())
        ][-c.critic_windows :]  # fmt: skip
        obs, regressed = (torch.cat(each) for each in zip(*self.recent, strict=True))
        said["critic_error"], norms["critics"] = learner.regress(obs, regressed)
        said["critic_norm"] = finite_mean(norms["critics"])
        self._remember(window)
        norms["local model"] = self._refresh(env, said)
        if c.look_aheads and acting:
            norms["look-aheads"] = learner.look_ahead(needed_model(env), self.experience)
            said["look_ahead_norm"] = finite_mean(norms["look-aheads"])
        self._close(acting)
        said["skipped"] = float(self.guard.count(norms))
        return window, said

    def _climb(self, grown: Window, norms: dict[str, list[float]]) -> dict[str, float]:
        norm, promised = self.learner.climb_window(grown)
        norms["actor"] = [norm]
        return {"actor_norm": norm, "objective": float(promised.mean())}

    def _remember(self, window: Window) -> None:
        assert self.experience is not None
        flat = {name: getattr(window, name).flatten(0, 1) for name in FIELDS}
        self.experience.add(flat)
        if self.windows >= self.config.head_start:
            self.learner.normaliser.see(flat["obs"])  # till then the policy is what it was

    def _refresh(self, env: DifferentiableEnv, said: dict[str, float]) -> list[float]:
        """The local model learns from what the policy did of late in the global model.

        NaN for each time that it refused to, as gradients were not finite.
        """
        assert self.experience is not None
        taken = []
        for _ in range(self.config.refreshes):
            batch = self.experience.draw(
                self.config.refresh_batch, last=self.config.refresh_recent, rng=self.learner.rng
            )
            try:
                found = env.refresh(batch)
            except FloatingPointError:
                taken.append(math.nan)
                continue
            taken.append(0.0)
            said.update({f"refresh/{name}": float(value) for name, value in found.items()})
        return taken

    def _audit(self, window: Window) -> float:
        """Mean bias of the episodes that ended; the last that is known, where none did."""
        assert self.audit is not None
        bias = audit_window(self.audit, self.learner, window)
        if len(bias):
            self._value_bias = float(bias.mean())
        return self._value_bias

    def _close(self, acting: bool) -> None:
        """Slow critics follow; what was done is counted."""
        c = self.config
        self.windows += 1
        self.learner.critics.follow()
        if self.windows == c.head_start:
            self.learner.critics.catch_up()
        self.gradient_steps += c.critic_updates + c.refreshes
        if acting:
            self.local_samples += c.look_aheads * c.look_ahead_steps * c.look_ahead_batch
            self.gradient_steps += 1 + int(c.entropy) + c.look_aheads

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

        `policy_only` leaves out experience, optimisers, the local model and the environment: it
        acts, and learning goes on from its policy and critics as in a new environment.
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
