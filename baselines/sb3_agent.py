"""Stable-Baselines3's `learn` turned inside out: updates are yielded, and the caller decides."""

import io
import pickle
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Self, TypeAlias

import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import VectorEnv
from jaxtyping import Bool, Float, Real
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize
from torch.optim import Optimizer
from tqdm import tqdm

from baselines.files import atomic_file
from baselines.sb3_vec_env import Sb3VecEnv
from baselines.settings import Settings, check_timesteps

Algorithm: TypeAlias = PPO | SAC
Env: TypeAlias = VectorEnv[Any, Any, Any]

_LAST_RATE = 0.1
"""What a learning rate that decays has fallen to in the end, as a share."""

_REST = "agent.pkl"
"""What is saved beside Stable-Baselines3's own, in the same zip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """A rollout and what was learned from it. Counts are of the agent's whole life."""

    samples: int
    """Transitions so far."""

    local_samples: int = 0
    """Transitions of a local model: there is none here."""

    gradient_steps: int
    """Of all optimisers so far: SAC has one for its actor, its critics and its temperature each,
    PPO one for its actor and critic together."""

    seconds: float
    """Of work so far, without what the caller did between two updates."""

    reward: float
    """A step's in this rollout, as the environment gave it."""

    diagnostics: dict[str, float]
    """What Stable-Baselines3 logs as "train/…"; empty until the first training."""


class Sb3Agent:
    """PPO or SAC behind the surface of every agent here; `ppo` and `sac` make one."""

    def __init__(
        self,
        algorithm: Algorithm,
        config: Settings,
        *,
        seed: int,
        normaliser: VecNormalize | None = None,
        seconds: float = 0.0,
    ) -> None:
        """`normaliser` is the environment's own, unless there is no environment."""
        found = algorithm.get_vec_normalize_env() if normaliser is None else normaliser
        assert found is not None, "the environment is not `normalised`"
        self.algorithm, self.config, self.normaliser = algorithm, config, found
        self.seed, self.seconds = seed, seconds
        algorithm.set_logger(Logger(folder=None, output_formats=[]))  # its own makes folders

    @property
    def num_timesteps(self) -> int:
        """Samples so far."""
        return self.algorithm.num_timesteps

    @property
    def gradient_steps(self) -> int:
        return sum(
            max((int(state["step"]) for state in each.state.values()), default=0)
            for each in _optimisers(self.algorithm)
        )

    def updates(self, total_timesteps: int) -> Iterator[Update]:
        """So many samples more, rounded up to whole rollouts.

        May be left at any update and called again: episodes, statistics and counts go on.
        """
        check_timesteps(total_timesteps)
        if self.algorithm.env is None:
            raise ValueError("there is no environment to learn in: load(path, env)")
        return self._updates(total_timesteps)

    def _updates(self, total_timesteps: int) -> Iterator[Update]:
        began, rewards = perf_counter(), _Rewards(self.normaliser)
        end, callback = self.algorithm._setup_learn(
            total_timesteps, rewards, reset_num_timesteps=False
        )
        while self.algorithm.num_timesteps < end:
            _collect(self.algorithm, callback)
            self.algorithm._update_current_progress_remaining(
                self.num_timesteps, self.config.decay_samples or end
            )
            _train(self.algorithm)
            self.seconds += perf_counter() - began
            yield self._update(rewards.mean)
            began = perf_counter()

    def _update(self, reward: float) -> Update:
        logged = self.algorithm.logger.name_to_value.items()
        diagnostics = {
            name.removeprefix("train/"): float(value)
            for name, value in logged
            if name.startswith("train/")
        }
        return Update(
            samples=self.num_timesteps,
            gradient_steps=self.gradient_steps,
            seconds=self.seconds,
            reward=reward,
            diagnostics=diagnostics,
        )

    def learn(
        self,
        total_timesteps: int,
        callback: Callable[[Update], bool | None] | None = None,
        progress_bar: bool = False,
    ) -> Self:
        """All `updates`, or until `callback(update)` returns False."""
        if callback is not None and not callable(callback):
            raise TypeError(
                f"callback is a {type(callback).__name__}, expected a function of an Update; "
                "callbacks of Stable-Baselines3 go with its own `learn`, of `algorithm`"
            )
        check_timesteps(total_timesteps)
        begun_at, hidden = self.num_timesteps, not progress_bar
        with tqdm(total=total_timesteps, disable=hidden, unit=" samples", unit_scale=True) as bar:
            for update in self.updates(total_timesteps):
                bar.update(update.samples - begun_at - bar.n)
                bar.set_postfix_str(f"reward {update.reward:.3g}")
                if callback is not None and callback(update) is False:
                    break
        return self

    def predict(
        self,
        obs: Real[np.ndarray, "..."],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: Bool[np.ndarray, "b"] | None = None,
        deterministic: bool = True,
    ) -> tuple[Float[np.ndarray, "..."], tuple[np.ndarray, ...] | None]:
        """Of observations as environments give them: they are normalised here, by statistics that
        this leaves as they are. What is not deterministic is drawn from torch's global generator.
        """
        obs, shape = np.asarray(obs), self.normaliser.observation_space.shape
        assert shape is not None
        if obs.shape[-len(shape) :] != shape or obs.ndim > len(shape) + 1:
            raise ValueError(f"obs has shape {obs.shape}, expected (n, *{shape}) or {shape}")
        if not np.isfinite(obs).all():
            raise ValueError("obs is not finite, expected numbers")
        seen: Any = self.normaliser.normalize_obs(obs)
        action, state = self.algorithm.predict(seen, state, episode_start, deterministic)
        if not np.isfinite(action).all():
            raise FloatingPointError("the policy has diverged: its action is not finite")
        return action, state

    def save(self, path: str | Path) -> None:
        """Everything but the environment and SAC's replay buffer, in one zip (".zip" is added where
        it is missing), which is whole or not there. Stable-Baselines3 itself can load it too,
        without the normalisation."""
        whole = io.BytesIO()
        self.algorithm.save(whole, exclude=["_last_obs", "_last_original_obs"])
        rest = {
            "kind": type(self.algorithm), "config": self.config, "normaliser": self.normaliser,
            "seed": self.seed, "seconds": self.seconds,
        }  # fmt: skip
        with zipfile.ZipFile(whole, "a") as archive:
            archive.writestr(_REST, pickle.dumps(rest))
        with atomic_file(_zip(path)) as file:
            file.write(whole.getvalue())

    @classmethod
    def load(cls, path: str | Path, env: Env | None = None) -> Self:
        """Only ever from files of your own: there are pickles in them, which can run any code.

        Without `env` it can only predict. With it, it goes on learning: networks, optimisers,
        statistics and counts are as they were, but episodes begin anew, from other seeds than at
        first, and SAC, whose replay buffer is empty, acts for `learning_starts` samples before it
        trains again. `env` may have another number of environments in it; as in `ppo`, global
        generators are seeded.
        """
        whole = _zip(path).read_bytes()
        try:
            with zipfile.ZipFile(io.BytesIO(whole)) as archive:
                rest = pickle.loads(archive.read(_REST))
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(
                f"{path} is not a whole file of an agent, expected what its `save` wrote: {error}"
            ) from None
        normaliser, config = rest["normaliser"], rest["config"]
        if env is not None:
            saved, normaliser = normaliser, normalised(env, config)
            normaliser.ret_rms = saved.ret_rms
            if config.normalise_obs:
                normaliser.obs_rms = saved.obs_rms
        algorithm: Algorithm = rest["kind"].load(
            io.BytesIO(whole), env=None if env is None else normaliser, device="cpu", seed=None
        )
        if env is not None:
            algorithm.set_random_seed(_later_seed(rest["seed"], algorithm.num_timesteps))
        return cls(
            algorithm, config, seed=rest["seed"], normaliser=normaliser, seconds=rest["seconds"]
        )


def _optimisers(algorithm: Algorithm) -> list[Optimizer]:
    if isinstance(algorithm, PPO):
        return [algorithm.policy.optimizer]
    each = algorithm.actor.optimizer, algorithm.critic.optimizer, algorithm.ent_coef_optimizer
    return [optimiser for optimiser in each if optimiser is not None]


def normalised(env: Env, config: Settings) -> VecNormalize:
    """In Stable-Baselines3's shape, with running statistics of what comes by."""
    wrapped = Sb3VecEnv(env)
    obs, action = wrapped.observation_space, wrapped.action_space
    if not isinstance(obs, Box):
        raise ValueError(f"observations are of {obs}, expected a Box")
    if is_image_space(obs) and not config.normalise_obs:
        raise ValueError("observations are pictures and normalise_obs is False, expected True")
    if not isinstance(action, Box) or not action.is_bounded():
        raise ValueError(f"actions are of {action}, expected a Box with bounds")
    return VecNormalize(
        wrapped, norm_obs=config.normalise_obs, norm_reward=config.normalise_reward,
        clip_obs=config.clip_obs, gamma=config.gamma,
    )  # fmt: skip


def learning_rate(first: float, decay_samples: int | None) -> float | LinearSchedule:
    return first if decay_samples is None else LinearSchedule(first, _LAST_RATE * first, 1.0)


class _Rewards(BaseCallback):
    """Of a rollout, before they are normalised."""

    def __init__(self, normaliser: VecNormalize) -> None:
        super().__init__()
        self._normaliser = normaliser
        self._each: list[float] = []

    @property
    def mean(self) -> float:
        return sum(self._each) / len(self._each)

    def _on_rollout_start(self) -> None:
        self._each.clear()

    def _on_step(self) -> bool:
        self._each.append(float(self._normaliser.get_original_reward().mean()))
        return True


def _collect(algorithm: Algorithm, callback: BaseCallback) -> None:
    assert algorithm.env is not None
    if isinstance(algorithm, PPO):
        algorithm.collect_rollouts(
            algorithm.env, callback, algorithm.rollout_buffer, n_rollout_steps=algorithm.n_steps
        )
        return
    assert algorithm.replay_buffer is not None
    algorithm.collect_rollouts(
        algorithm.env, callback, algorithm.train_freq, algorithm.replay_buffer,  # type: ignore[arg-type]
        learning_starts=algorithm.learning_starts,
    )  # fmt: skip


def _train(algorithm: Algorithm) -> None:
    if isinstance(algorithm, PPO):
        algorithm.train()
        return
    buffer = algorithm.replay_buffer
    assert buffer is not None
    # what is in the buffer counts, not what has ever been seen: a loaded agent's is empty
    if buffer.full or buffer.size() * algorithm.n_envs > algorithm.learning_starts:
        algorithm.train(algorithm.gradient_steps, algorithm.batch_size)


def _later_seed(seed: int, samples: int) -> int:
    return int(np.random.SeedSequence([seed, samples]).generate_state(1)[0] >> 1)


def _zip(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".zip" else path.with_name(f"{path.name}.zip")
