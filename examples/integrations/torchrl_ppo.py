"""TorchRL's PPO in the dream.

python examples/integrations/torchrl_ppo.py
"""

import time
from dataclasses import dataclass

import gymnasium as gym
import torch
import torchrl
import tyro
from tensordict.nn import NormalParamExtractor, TensorDictModule
from torch import nn
from torchrl.collectors import Collector
from torchrl.envs import EnvBase, GymWrapper
from torchrl.modules import MLP, ProbabilisticActor, TanhNormal, ValueOperator
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

import wm_gym  # noqa: F401  registers the environments


@dataclass(frozen=True, kw_only=True)
class Settings:
    total_timesteps: int = 8192
    num_envs: int = 16
    """Dreams in one batch."""

    rollout: int = 32
    """Steps of each dream between two updates."""

    epochs: int = 4
    minibatches: int = 4
    learning_rate: float = 3e-4
    gamma: float = 0.99
    env_id: str = "WM-PushT-v0"
    """WM-v0 takes a model folder of any system."""

    world_model: str = "push-t"
    """A packaged name, or a model folder."""

    seed: int = 0


def main(config: Settings) -> None:
    torch.manual_seed(config.seed)
    env = GymWrapper(
        gym.make_vec(
            config.env_id, num_envs=config.num_envs, world_model=config.world_model,
            obs_type="latent", autoreset_mode="Disabled", staggered=True,
        )
    )  # fmt: skip
    env.set_seed(config.seed)
    actor, critic = networks(env)
    loss = ClipPPOLoss(actor, critic, clip_epsilon=0.2, entropy_coeff=0.0, normalize_advantage=True)
    advantage = GAE(gamma=config.gamma, lmbda=0.95, value_network=critic)
    optimiser = torch.optim.Adam(loss.parameters(), config.learning_rate)
    per_batch = config.num_envs * config.rollout
    collector = Collector(
        env, actor, frames_per_batch=per_batch, total_frames=config.total_timesteps
    )
    begun, steps = time.perf_counter(), 0
    for data in collector:
        for _ in range(config.epochs):
            with torch.no_grad():
                advantage(data)
            flat = data.reshape(-1)
            for index in torch.randperm(len(flat)).chunk(config.minibatches):
                terms = loss(flat[index])
                optimiser.zero_grad()
                (terms["loss_objective"] + terms["loss_critic"]).backward()
                nn.utils.clip_grad_norm_(loss.parameters(), 0.5)
                optimiser.step()
        steps += data.numel()
        ended = int(data["next", "done"].sum())
        reward = float(data["next", "reward"].mean())
        print(f"{steps:>8,} steps   reward a step {reward:.2f}   {ended} episodes ended")
    seconds = time.perf_counter() - begun
    collector.shutdown()
    print(f"torchrl {torchrl.__version__}, ppo: {steps:,} steps in {seconds:.1f} s")


def networks(env: EnvBase) -> tuple[ProbabilisticActor, ValueOperator]:
    size, actions = env.observation_spec["observation"].shape[-1], env.action_spec.shape[-1]
    head = nn.Sequential(
        MLP(in_features=size, out_features=2 * actions, num_cells=[128, 128]),
        NormalParamExtractor(),
    )
    actor = ProbabilisticActor(
        TensorDictModule(head, in_keys=["observation"], out_keys=["loc", "scale"]),
        in_keys=["loc", "scale"], distribution_class=TanhNormal, return_log_prob=True,
        spec=env.action_spec,
    )  # fmt: skip
    critic = ValueOperator(MLP(in_features=size, out_features=1, num_cells=[128, 128]))
    return actor, critic


if __name__ == "__main__":
    main(tyro.cli(Settings))
