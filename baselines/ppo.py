"""Stable-Baselines3's PPO (Schulman et al. 2017), with settings for many environments at once."""

import math
from dataclasses import dataclass

from stable_baselines3 import PPO

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
class PPOConfig:
    """Named as in Stable-Baselines3, where it has the setting."""

    n_steps: int = 16
    """Of each environment, between two trainings."""

    minibatches: int = 2
    """Into how many a rollout is cut; with 64 environments each has 512 samples."""

    n_epochs: int = 4
    """How often each sample is used."""

    learning_rate: float = 3e-4
    decay_samples: int | None = None
    """The learning rate falls linearly, to a tenth, until this many samples; None keeps it."""

    gamma: float = 0.99
    """γ, what a step later is worth."""

    gae_lambda: float = 0.95
    """λ of the advantages, and of the critic's targets."""

    clip_range: float = 0.2
    """How far the new policy's density may leave the old one's, as a share."""

    ent_coef: float = 1e-3
    """What a nat of entropy is worth, beside advantages of deviation 1."""

    vf_coef: float = 0.5
    """The critic's weight in the loss."""

    max_grad_norm: float = 0.5
    """The longest gradient; longer ones are scaled down to it."""

    target_kl: float | None = 0.02
    """Training on a rollout stops once the policy has gone 1.5 times as far; None: it does not."""

    hidden: tuple[int, ...] = (256, 256)
    """Layers of the actor, and of the critic."""

    activation: Activation = "silu"
    log_std_init: float = -0.5
    """log σ of the first policy, in every state; actions lie within 1."""

    normalise_obs: bool = True
    """Shift and scale observations by their running mean and deviation."""

    normalise_reward: bool = True
    """Divide rewards by the running deviation of the returns so far."""

    clip_obs: float = 10.0
    """Where normalised observations are cut off, in deviations."""

    def __post_init__(self) -> None:
        check_whole(self, {"n_steps": 1, "minibatches": 1, "n_epochs": 1})
        check_positive(self, ("learning_rate", "clip_range", "max_grad_norm", "clip_obs"))
        check_share(self, ("gamma", "gae_lambda"))
        check_network(self.hidden, self.activation)
        check_decay(self.decay_samples)
        for name in ("ent_coef", "vf_coef"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")
        if not math.isfinite(self.log_std_init):
            raise ValueError(f"log_std_init is {self.log_std_init}, expected a finite number")
        if self.target_kl is not None and not self.target_kl > 0:
            raise ValueError(f"target_kl is {self.target_kl}, expected more than 0, or None")


def ppo(env: Env, config: PPOConfig | None = None, seed: int = 0) -> Sb3Agent:
    """An agent that has learned nothing, on any vector environment made with
    `autoreset_mode="SameStep"`, whose observations and actions are boxes.

        for update in ppo(env).updates(100_000):
            print(update.samples, update.reward)

    Its networks are MLPs, made for latents and other vectors; pictures are flattened. It works on
    the CPU. Stable-Baselines3 seeds the *global* generators of Python, NumPy and torch with `seed`,
    and draws from them.
    """
    config = PPOConfig() if config is None else config
    wrapped = normalised(env, config)
    algorithm = PPO(
        "MlpPolicy", wrapped,
        learning_rate=learning_rate(config.learning_rate, config.decay_samples),
        n_steps=config.n_steps, n_epochs=config.n_epochs,
        batch_size=_batch_size(wrapped.num_envs, config),
        gamma=config.gamma, gae_lambda=config.gae_lambda, clip_range=config.clip_range,
        ent_coef=config.ent_coef, vf_coef=config.vf_coef, max_grad_norm=config.max_grad_norm,
        target_kl=config.target_kl, seed=seed, device="cpu",
        policy_kwargs={
            **network(config.hidden, config.activation), "log_std_init": config.log_std_init
        },
    )  # fmt: skip
    return Sb3Agent(algorithm, config, seed=seed)


def _batch_size(num_envs: int, config: PPOConfig) -> int:
    rollout = num_envs * config.n_steps
    size, rest = divmod(rollout, config.minibatches)
    if rest or size < 2:
        raise ValueError(
            f"num_envs · n_steps = {num_envs} · {config.n_steps} = {rollout} samples do not make "
            f"{config.minibatches} equal minibatches of 2 or more: choose other minibatches"
        )
    return size
