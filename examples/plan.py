"""Plan by gradient: improve a sequence of actions in the dream, then try it on the real system.

python examples/plan.py             # half a minute; writes out/plan.png
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from torch import Tensor

from wm_gym.envs import RealVectorEnv
from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.numbers import check_least
from wm_gym.programs.progress import each


@dataclass(frozen=True, kw_only=True)
class Plan:
    starts: int = 16
    """Different starts, planned for side by side; seeded 0, 1, ..."""

    steps: int = 16
    """Actions in a row."""

    iterations: int = 40
    """Gradient steps."""

    rate: float = 0.1
    """Of Adam, on actions before they are squashed."""

    gradient: str = "surrogate"
    """Whose: surrogate or diffusion."""

    world_model: str = "push-t"
    """Which model dreams: a packaged name, or a folder."""

    out: Path = Path("out/plan.png")
    """The picture to write."""

    def __post_init__(self) -> None:
        check_least(1, starts=self.starts, steps=self.steps, iterations=self.iterations)
        check_least(0, rate=self.rate)


def main(config: Plan) -> None:
    real = gym.make_vec("Real-PushT-v0", num_envs=config.starts).unwrapped
    assert isinstance(real, RealVectorEnv)
    frames, _ = real.reset(seed=0)
    dream = gym.make_vec(
        "WM-PushT-v0", num_envs=config.starts, obs_type="latent", gradient=config.gradient,
        ends=False, world_model=config.world_model,
    ).unwrapped  # fmt: skip
    assert isinstance(dream, DreamVectorEnv)
    dream.reset(seed=0, options={"frames": frames[:, None]})
    start = dream.get_state()

    rng = torch.Generator().manual_seed(0)
    raw = torch.randn(config.steps, config.starts, 2, generator=rng).requires_grad_(True)
    first, optimiser = raw.detach().tanh(), torch.optim.Adam([raw], config.rate)
    found = []
    for _ in each(range(config.iterations), desc="planning"):
        dream.set_state(start)
        value = rollout(dream, raw.tanh())
        optimiser.zero_grad()
        (-value.sum()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        found.append(value.detach().numpy())

    plans = {"as drawn": first, "planned": raw.detach().tanh()}
    print(f"sum of {config.steps} rewards, mean and standard error of {config.starts} starts")
    for name, actions in plans.items():
        dream.set_state(start)
        with torch.no_grad():
            dreamt = rollout(dream, actions).numpy()
        print(f"{name:<10} dream {told(dreamt)}   real {told(executed(real, actions.numpy()))}")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot(np.stack(found), color="0.8")
    axis.plot(np.mean(found, axis=1), color="C0", label="mean")
    axis.set(xlabel="gradient steps", ylabel="sum of rewards in the dream")
    axis.legend()
    figure.savefig(config.out, dpi=120)
    print(f"picture: {config.out}")


def rollout(dream: DreamVectorEnv, actions: Tensor) -> Tensor:
    """The sum of rewards of each start, differentiable in the actions."""
    dream.begin_window()
    return torch.stack([dream.step_with_grad(action).reward for action in actions]).sum(0)


def executed(real: RealVectorEnv, actions: np.ndarray) -> np.ndarray:
    real.reset(seed=0)
    return np.stack([real.step(action)[1] for action in actions]).sum(0)


def told(values: np.ndarray) -> str:
    return f"{values.mean():+.2f} ± {values.std() / np.sqrt(len(values)):.2f}"


if __name__ == "__main__":
    main(tyro.cli(Plan))
