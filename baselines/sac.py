"""Stable-Baselines3's SAC (Haarnoja et al. 2018), with settings for many environments at once."""

from dataclasses import dataclass

import numpy as np
from stable_baselines3 import SAC

from baselines.sb3_agent import Env, Sb3Agent, learning_rate, normalised
from baselines.settings import (
    Activation,
    check_decay,
    check_network,
    check_positive,
    check_share,
    check_whole,
    network,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SACConfig:
    """Named as in Stable-Baselines3, where it has the setting."""

    train_freq: int = 8
    """Steps of each environment between two trainings."""

    gradient_steps: int = 32
    """Of a training; with 64 environments one for every 16 samples. SAC was made for one a sample,
    which takes 16 times as long."""

    batch_size: int = 512
    buffer_size: int = 300_000
    """Transitions that are kept."""

    learning_starts: int = 5_000
    """Transitions of random actions before the first training."""

    learning_rate: float = 3e-4
    decay_samples: int | None = None
    """The learning rate falls linearly, to a tenth, until this many samples; None keeps it."""

    gamma: float = 0.99
    """γ, what a step later is worth."""

    tau: float = 0.005
    """How far the slow critics follow the fast ones in a gradient step."""

    first_ent_coef: float = 0.1
    """The temperature α at first; it is steered to the target entropy."""

    target_entropy: float | None = None
    """None is −|A|, for |A| action numbers."""

    hidden: tuple[int, ...] = (256, 256)
    """Layers of the actor, and of each of two critics."""

    activation: Activation = "silu"
    normalise_obs: bool = True
    """Shift and scale observations by their running mean and deviation."""

    normalise_reward: bool = False
    """Divide rewards by the running deviation of the returns so far."""

    clip_obs: float = 10.0
    """Where normalised observations are cut off, in deviations."""

    def __post_init__(self) -> None:
        check_whole(
            self,
            {"train_freq": 1, "gradient_steps": 1, "batch_size": 1, "buffer_size": 1,
             "learning_starts": 0},
        )  # fmt: skip
        check_positive(self, ("learning_rate", "first_ent_coef", "clip_obs"))
        check_share(self, ("gamma", "tau"))
        check_network(self.hidden, self.activation)
        check_decay(self.decay_samples)
        if self.target_entropy is not None and not np.isfinite(self.target_entropy):
            raise ValueError(f"target_entropy is {self.target_entropy}, expected a number, or None")
        if self.learning_starts >= self.buffer_size:
            raise ValueError(
                f"learning_starts is {self.learning_starts}, expected less than buffer_size, which "
                f"is {self.buffer_size}"
            )


def sac(env: Env, config: SACConfig | None = None, seed: int = 0) -> Sb3Agent:
    """As `ppo`, with its environments, networks and seeds."""
    config = SACConfig() if config is None else config
    target: float | str = "auto" if config.target_entropy is None else config.target_entropy
    algorithm = SAC(
        "MlpPolicy", normalised(env, config),
        learning_rate=learning_rate(config.learning_rate, config.decay_samples),
        train_freq=config.train_freq, gradient_steps=config.gradient_steps,
        batch_size=config.batch_size, buffer_size=config.buffer_size,
        learning_starts=config.learning_starts, gamma=config.gamma, tau=config.tau,
        ent_coef=f"auto_{config.first_ent_coef}", target_entropy=target, seed=seed, device="cpu",
        policy_kwargs=network(config.hidden, config.activation),
    )  # fmt: skip
    return Sb3Agent(algorithm, config, seed=seed)
