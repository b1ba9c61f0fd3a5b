"""Small worlds in closed form that step as tensors: what an agent learns in them can be derived.

    LinearQuadratic   x′ = A x + B u,  r = −(x′ᵀ Q x′ + uᵀ R u)
    Corridor          a mass between two walls, which has to stop shortly before one of them

They begin episodes anew in the step that ends them, staggered, and show single steps in NumPy too.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from torch import Tensor


@dataclass
class Step:
    obs: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor
    valid: Tensor
    info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    obs: np.ndarray
    clock: np.ndarray
    rng: np.random.Generator


class Linear:
    """The law of `LinearQuadratic`: both its truth and, unless another is given, its surrogate."""

    def __init__(self, a, b, q, r, dtype):
        tensors = (torch.tensor(each, dtype=dtype) for each in (a, b, q, r))
        self.a, self.b, self.q, self.r = tensors

    def predict(self, obs, action):
        return obs @ self.a.T + action @ self.b.T

    def reward_of(self, next_obs, action):
        state, effort = ((x @ m * x).sum(1) for x, m in ((next_obs, self.q), (action, self.r)))
        return -state - effort

    def gain(self, gamma):
        """K of the best u = −K x, if r₀ + γ r₁ + … is to be as much as can be.

        What it costs is xᵀ P x = minᵤ uᵀ R u + x′ᵀ S x′, with S = Q + γ P for x′ and all after it:

            K = (R + Bᵀ S B)⁻¹ Bᵀ S A        P = Aᵀ S A − Aᵀ S B K
        """
        a, b, q, r = (each.double().numpy() for each in (self.a, self.b, self.q, self.r))
        p = np.zeros_like(q)
        for _ in range(10_000):
            s = q + gamma * p
            k = np.linalg.solve(r + b.T @ s @ b, b.T @ s @ a)
            p = a.T @ s @ a - a.T @ s @ b @ k
        return k


class TensorEnv:
    """`law` moves it; `surrogate` lends the gradients, which are the law's own if it is the law."""

    render_mode = None
    spec = None

    def __init__(self, law, num_envs, box, *, obs_size, horizon, dtype, mode, staggered):
        self.law = self.surrogate = law
        self.num_envs, self.horizon, self.dtype = num_envs, horizon, dtype
        self.staggered, self.metadata = staggered, {"autoreset_mode": mode}
        self.single_observation_space = Box(-np.inf, np.inf, (obs_size,), np.float32)
        self.single_action_space = box
        self.box = [torch.as_tensor(bound, dtype=dtype) for bound in (box.low, box.high)]
        self.refreshed = 0
        self.rng = None

    def starts(self, n):
        """NumPy's, drawn from `self.rng`."""
        raise NotImplementedError

    def ended(self, obs):
        return torch.zeros(len(obs), dtype=torch.bool)

    def reset(self, *, seed=None, options=None):
        if isinstance(seed, list):
            seed = seed[0]
        if seed is not None or self.rng is None:
            self.rng = np.random.default_rng(seed)
        self.obs = torch.as_tensor(self.starts(self.num_envs), dtype=self.dtype)
        self.clock = torch.zeros(self.num_envs, dtype=torch.int64)
        if self.staggered:
            self.clock = torch.arange(self.num_envs) * self.horizon // self.num_envs
        return self.obs.numpy().copy(), {}

    def begin_window(self):
        self.obs = self.obs.detach()
        return self.obs.clone()

    def step_with_grad(self, action):
        action = torch.minimum(torch.maximum(action, self.box[0]), self.box[1])
        after = self.law.predict(self.obs, action)
        reward = self.law.reward_of(after, action)
        if self.surrogate is not self.law:
            after = lent(after, self.surrogate.predict(self.obs, action))
            reward = lent(reward, self.surrogate.reward_of(after, action))
        self.clock = self.clock + 1
        terminated, truncated = self.ended(after.detach()), self.clock >= self.horizon
        over = terminated | truncated
        fresh = torch.as_tensor(self.starts(self.num_envs), dtype=self.dtype)
        self.obs = torch.where(over[:, None], fresh, after)
        self.clock = torch.where(over, 0, self.clock)
        return Step(
            self.obs, reward, terminated, truncated & ~terminated, after, torch.ones_like(over)
        )

    def refresh(self, batch):
        assert set(batch) == {"obs", "action", "reward", "next_obs"}
        self.refreshed += 1
        return {"size": float(len(batch["reward"]))}

    def get_state(self):
        obs = self.obs.detach().numpy().copy()
        return State(obs=obs, clock=self.clock.numpy().copy(), rng=copy.deepcopy(self.rng))

    def set_state(self, state):
        self.obs, self.clock = torch.tensor(state.obs), torch.tensor(state.clock)
        self.rng = copy.deepcopy(state.rng)

    @torch.no_grad()
    def step(self, actions):
        """As a vector environment of Gymnasium does."""
        out = self.step_with_grad(torch.as_tensor(actions, dtype=self.dtype))
        over = (out.terminated | out.truncated).numpy()
        final = np.full(self.num_envs, None, dtype=object)
        for i in np.flatnonzero(over):
            final[i] = out.final_obs[i].numpy().astype(np.float32)
        info = {"final_obs": final, "_final_obs": over, "final_info": {}, "_final_info": over}
        each = (out.reward, out.terminated, out.truncated)
        return (out.obs.numpy().astype(np.float32), *(one.numpy() for one in each), info)

    def close(self):
        pass


def lent(truth, differentiable):
    """The value of one, the gradient of the other."""
    return differentiable + (truth - differentiable).detach()


class LinearQuadratic(TensorEnv):
    """Whether an episode ends where |x| is beyond `limit` is up to who asks for one."""

    def __init__(
        self,
        num_envs=16,
        *,
        reach=4.0,
        centre=0.0,
        horizon=20,
        limit=None,
        dtype=torch.float32,
        mode=AutoresetMode.SAME_STEP,
        staggered=True,
        actions=1,
    ):
        a, b = [[0.9, 0.3], [-0.1, 0.95]], [[0.1, 0.05], [0.5, -0.2]]
        b = np.array(b)[:, :actions]
        law = Linear(a, b, [[1.0, 0.0], [0.0, 0.2]], 0.1 * np.eye(actions), dtype)
        box = Box(centre - reach, centre + reach, (actions,), np.float32)
        super().__init__(
            law, num_envs, box, obs_size=2, horizon=horizon, dtype=dtype, mode=mode,
            staggered=staggered,
        )  # fmt: skip
        self.limit = limit

    def starts(self, n):
        return self.rng.uniform(-1, 1, (n, 2))

    def ended(self, obs):
        return super().ended(obs) if self.limit is None else obs.norm(dim=1) > self.limit


class Poisoned(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        return torch.full_like(grad, torch.nan)


class Treacherous(LinearQuadratic):
    """Its gradients, not its values, are NaN in windows for which `poisoned(their number)`."""

    def __init__(self, *args, poisoned, **kwargs):
        super().__init__(*args, **kwargs)
        self.poisoned, self.windows = poisoned, -1

    def begin_window(self):
        self.windows += 1
        return super().begin_window()

    def step_with_grad(self, action):
        return super().step_with_grad(
            Poisoned.apply(action) if self.poisoned(self.windows) else action
        )


class Mass:
    """(p, v): v′ = v + (u + wall) dt, p′ = p + v′ dt; walls at ±1 are stiff and swallow speed.

    To be away from the goal costs, and so does speed: who hurries there hits the wall behind it.
    """

    dt, goal, stiffness, damping = 0.1, 0.85, 30.0, 8.0

    def predict(self, obs, action):
        place, speed = obs.unbind(1)
        beyond = place - place.clamp(-1, 1)
        wall = -self.stiffness * beyond - self.damping * speed * (beyond != 0)
        speed = speed + self.dt * (action[:, 0] + wall)
        return torch.stack([place + self.dt * speed, speed], dim=1)

    def reward_of(self, next_obs, action):
        place, speed = next_obs.unbind(1)
        return -((place - self.goal).square() + 1e-3).sqrt() - 0.5 * speed.square()


class Corridor(TensorEnv):
    """`Mass`, over after `horizon` steps."""

    def __init__(self, num_envs=16, *, horizon=60, dtype=torch.float32, staggered=True):
        super().__init__(
            Mass(), num_envs, Box(-1, 1, (1,), np.float32), obs_size=2, horizon=horizon,
            dtype=dtype, mode=AutoresetMode.SAME_STEP, staggered=staggered,
        )  # fmt: skip

    def starts(self, n):
        return self.rng.uniform([-0.9, -0.5], [0.0, 0.5], (n, 2))
