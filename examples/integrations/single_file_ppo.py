"""PPO (Schulman et al. 2017) in one file: PyTorch and Gymnasium, and `gym.make_vec` as it comes.

python examples/integrations/single_file_ppo.py
python examples/integrations/single_file_ppo.py --obs-type pixels      # a small CNN instead
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
import tyro
from gymnasium.wrappers.vector import NormalizeReward, RecordEpisodeStatistics
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

import wm_gym  # noqa: F401  registers the environments


@dataclass(frozen=True, kw_only=True)
class Settings:
    obs_type: Literal["latent", "pixels"] = "latent"
    total_timesteps: int = 8192
    num_envs: int = 16
    """Dreams in one batch."""

    rollout: int = 32
    """Steps of each dream between two updates."""

    epochs: int = 4
    minibatches: int = 4
    learning_rate: float = 3e-4
    gamma: float = 0.99
    """γ, what a step later is worth."""

    lam: float = 0.95
    """λ of the advantages."""

    clip: float = 0.2
    """How far a ratio of densities may leave 1 and still be rewarded."""

    env_id: str = "WM-PushT-v0"
    """WM-v0 takes a model folder of any system."""

    world_model: str = "push-t"
    """A packaged name, or a model folder."""

    seed: int = 0


class Agent(nn.Module):
    """A Gaussian policy and a critic, each with its own encoder."""

    def __init__(self, obs_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
        super().__init__()
        assert obs_space.shape is not None
        assert action_space.shape is not None
        size = action_space.shape[0]
        self.actor = network(obs_space.shape, size)
        self.critic = network(obs_space.shape, 1)
        self.log_std = nn.Parameter(torch.full((size,), -0.5))
        self.actor(torch.zeros(1, *obs_space.shape))  # lazy layers learn their sizes
        self.critic(torch.zeros(1, *obs_space.shape))

    def policy(self, obs: Tensor) -> Distribution:
        return Independent(Normal(self.actor(obs), self.log_std.exp()), 1)

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.policy(obs).log_prob(action)

    def value(self, obs: Tensor) -> Tensor:
        return self.critic(obs).squeeze(-1)


class Picture(nn.Module):
    """(b, h, w, 3) bytes to (b, 3, h, w) of 0 to 1."""

    def forward(self, obs: Tensor) -> Tensor:
        return obs.movedim(-1, 1) / 255


def network(shape: tuple[int, ...], out: int) -> nn.Sequential:
    if len(shape) == 1:
        encoder, features = [nn.Linear(shape[0], 128), nn.Tanh()], 128
    else:
        encoder, features = [Picture()], 3
        for width, kernel in ((16, 8), (32, 4), (32, 4)):
            encoder += [nn.Conv2d(features, width, kernel, stride=kernel // 2), nn.ReLU()]
            features = width
        encoder, features = [*encoder, nn.Flatten(), nn.LazyLinear(128), nn.Tanh()], 128
    last = nn.Linear(features, out)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(*encoder, nn.Linear(features, features), nn.Tanh(), last)


@dataclass(frozen=True)
class Rollout:
    """Time first: (t, b, ...). `next_obs` is the true successor, also where an episode ended."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    next_obs: Tensor
    terminated: Tensor
    over: Tensor


def rollouts(
    envs: gym.vector.VectorEnv[Any, Any, Any], agent: Agent, config: Settings
) -> Iterator[tuple[Rollout, list[float]]]:
    """And the rewards a step of the episodes that ended meanwhile."""
    obs, _ = envs.reset(seed=config.seed)
    while True:
        steps, episodes = [], []
        for _ in range(config.rollout):
            with torch.no_grad():
                action = agent.policy(torch.as_tensor(obs)).sample().numpy()
            after, reward, terminated, truncated, info = envs.step(action)
            over, next_obs = terminated | truncated, after.copy()
            if over.any():
                next_obs[over] = np.stack(info["final_obs"][over])
                episodes += list(info["episode"]["r"][over] / info["episode"]["l"][over])
            steps.append((obs, action, reward.astype(np.float32), next_obs, terminated, over))
            obs = after
        each = [torch.as_tensor(np.stack(column)) for column in zip(*steps, strict=True)]
        yield Rollout(*each), episodes


def advantages(agent: Agent, data: Rollout, config: Settings) -> tuple[Tensor, Tensor]:
    """And the critic's targets. Bootstraps unless the episode terminated; a time limit is no end.

    δₜ = rₜ + γ (1 − termₜ) V(s′ₜ) − V(sₜ)      Aₜ = δₜ + γ λ (1 − overₜ) Aₜ₊₁
    """
    with torch.no_grad():
        value = agent.value(data.obs.flatten(0, 1)).view_as(data.reward)
        next_value = agent.value(data.next_obs.flatten(0, 1)).view_as(data.reward)
    delta = data.reward + config.gamma * ~data.terminated * next_value - value
    found, last = torch.zeros_like(delta), torch.zeros_like(delta[0])
    for t in reversed(range(len(delta))):
        last = delta[t] + config.gamma * config.lam * ~data.over[t] * last
        found[t] = last
    return found, found + value


def update(agent: Agent, optimiser: torch.optim.Optimizer, data: Rollout, config: Settings) -> None:
    advantage, target = (each.flatten() for each in advantages(agent, data, config))
    obs, action = data.obs.flatten(0, 1), data.action.flatten(0, 1)
    with torch.no_grad():
        before = agent.log_prob(obs, action)
    for _ in range(config.epochs):
        for batch in torch.randperm(len(obs)).chunk(config.minibatches):
            ratio = (agent.log_prob(obs[batch], action[batch]) - before[batch]).exp()
            gain = (advantage[batch] - advantage[batch].mean()) / (advantage[batch].std() + 1e-8)
            clipped = ratio.clamp(1 - config.clip, 1 + config.clip)
            policy_loss = -torch.minimum(ratio * gain, clipped * gain).mean()
            value_loss = (agent.value(obs[batch]) - target[batch]).square().mean()
            optimiser.zero_grad()
            (policy_loss + 0.5 * value_loss).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimiser.step()


def main(config: Settings) -> None:
    torch.manual_seed(config.seed)
    envs = gym.make_vec(
        config.env_id, num_envs=config.num_envs, world_model=config.world_model,
        obs_type=config.obs_type, autoreset_mode="SameStep", staggered=True,
    )  # fmt: skip
    envs = NormalizeReward(RecordEpisodeStatistics(envs), gamma=config.gamma)
    agent = Agent(envs.single_observation_space, envs.single_action_space)
    optimiser = torch.optim.Adam(agent.parameters(), config.learning_rate, eps=1e-5)
    begun, steps = time.perf_counter(), 0
    for data, ended in rollouts(envs, agent, config):
        update(agent, optimiser, data, config)
        steps += data.reward.numel()
        reward = f"{np.mean(ended):.2f}" if ended else "–"
        print(f"{steps:>8,} steps   reward a step, of episodes that ended: {reward}")
        if steps >= config.total_timesteps:
            break
    seconds = time.perf_counter() - begun
    print(f"PPO in one file, torch {torch.__version__}: {steps:,} steps in {seconds:.1f} s")


if __name__ == "__main__":
    main(tyro.cli(Settings))
