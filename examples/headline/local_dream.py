"""The ablation *No Diffusion*: the light model is the world as well, not only where gradients come
from."""

from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Float
from torch import Tensor

from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.envs.gradient import GradStep
from wm_gym.models.protocol import Surrogate


class LocalDream:
    """Begins where `env` does, and then goes by the means that the local model predicts."""

    def __init__(self, env: DreamVectorEnv) -> None:
        self.env, self.num_envs = env, env.num_envs
        self.metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
        self.single_observation_space = env.single_observation_space
        self.single_action_space = env.single_action_space
        self.horizon: int = env.max_episode_steps
        self.elapsed = torch.zeros(self.num_envs, dtype=torch.int64)

    @property
    def surrogate(self) -> Surrogate:
        return self.env.surrogate

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Episodes are staggered, as those of the dream are."""
        shown, info = self.env.reset(seed=seed, options=options)
        self.obs = self.env.begin_window()
        each = torch.arange(self.num_envs, device=self.obs.device)
        self.elapsed = each * self.horizon // self.num_envs
        return shown, info

    def begin_window(self) -> Float[Tensor, "b x"]:
        self.obs = self.obs.detach()
        return self.obs

    def step_with_grad(self, action: Float[Tensor, "b a"]) -> GradStep:
        acted = action.clamp(-1.0, 1.0)
        final_obs = self.surrogate.predict(self.obs, acted)
        reward = self.surrogate.reward_of(final_obs, acted)
        self.elapsed += 1
        truncated = self.elapsed >= self.horizon
        self.obs = self._begun_anew(final_obs, truncated)
        never = torch.zeros_like(truncated)
        return GradStep(
            obs=self.obs, reward=reward, terminated=never, truncated=truncated,
            final_obs=final_obs, valid=~never, info={},
        )  # fmt: skip

    def _begun_anew(self, obs: Float[Tensor, "b x"], over: Tensor) -> Float[Tensor, "b x"]:
        if not over.any():
            return obs
        self.elapsed[over] = 0
        shown, _ = self.env.reset(options={"reset_mask": over.cpu().numpy()})
        return torch.where(over[:, None], torch.from_numpy(np.asarray(shown)).to(obs), obs)

    def refresh(self, batch: Any) -> dict[str, float]:
        raise ValueError("there is no global model here to learn from: FoGConfig(refreshes=0)")

    def get_state(self) -> tuple[Any, Tensor, Tensor]:
        return self.env.get_state(), self.obs.detach().clone(), self.elapsed.clone()

    def set_state(self, state: tuple[Any, Tensor, Tensor]) -> None:
        self.env.set_state(state[0])
        self.obs, self.elapsed = state[1].clone(), state[2].clone()
