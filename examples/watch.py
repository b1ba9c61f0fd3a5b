"""Watch a policy that learned in the dream alone at work on the real system.

python examples/watch.py                                   # the packaged one, in a window
python examples/watch.py --out out/watch.mp4               # or as a video
python examples/watch.py --env-id WM-PushT-v0              # in the dream it learned in
"""

import time
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import pygame
import tyro
from headline.video import write_video

import wm_gym  # noqa: F401  registers the environments
from fog_agent import FoG


@dataclass(frozen=True, kw_only=True)
class Watch:
    policy: str = "push-t"
    """A packaged name, or a file that FoG saved."""

    env_id: str = "Real-PushT-v0"
    """Where it acts: Real-PushT-v0, Real-GymPushT-v0 or WM-PushT-v0."""

    world_model: str = "push-t"
    """Whose latents the policy learned on."""

    episodes: int = 3
    steps: int = 150
    """Of an episode, five a second."""

    seed: int = 0
    """Of the first episode; the others follow."""

    speed: float = 3.0
    """As many times faster than it is."""

    out: Path | None = None
    """A video to write; without it a window shows what happens."""


def main(config: Watch) -> None:
    policy = FoG.load(config.policy)
    if config.out is None:
        _check_display()
    env = gym.make(
        config.env_id, obs_type="latent", world_model=config.world_model, horizon=config.steps,
        render_mode="human" if config.out is None else "rgb_array",
    )  # fmt: skip
    pictures: list[np.ndarray] = []
    for seed in range(config.seed, config.seed + config.episodes):
        best = _episode(env, policy, seed, pictures, config)
        print(f"seed {seed}: best coverage {best:.2f}")
    env.close()
    if config.out is not None:
        write_video(pictures, config.out, fps=config.speed * env.metadata["render_fps"])
        print(f"wrote {config.out}")


def _check_display() -> None:
    """What SDL draws on where nobody can see it is no window."""
    try:
        pygame.display.init()
        driver = pygame.display.get_driver()
    except pygame.error as error:
        driver = str(error)
    else:
        pygame.display.quit()
        if driver not in ("dummy", "offscreen"):
            return
    raise SystemExit(f"there is no window to be had ({driver}): give --out watch.mp4")


def _episode(
    env: gym.Env[np.ndarray, np.ndarray],
    policy: FoG,
    seed: int,
    pictures: list[np.ndarray],
    config: Watch,
) -> float:
    obs, info = env.reset(seed=seed)
    over = False
    while not over:
        begun = time.perf_counter()
        action, _ = policy.predict(obs)
        obs, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        if config.out is not None:
            picture = env.render()
            assert isinstance(picture, np.ndarray)
            pictures.append(picture)
        else:
            pause = 1 / (config.speed * env.metadata["render_fps"])
            time.sleep(max(0.0, pause - (time.perf_counter() - begun)))
    return float(info["best_coverage"])


if __name__ == "__main__":
    main(tyro.cli(Watch))
