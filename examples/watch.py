"""Watch a policy that learned in the dream alone at work on the real system.

python examples/watch.py                                   # the packaged one, in a window
python examples/watch.py --out out/watch.mp4               # or as a video
python examples/watch.py --env-id WM-PushT-v0              # in the dream it learned in
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import pygame
import tyro
from headline.video import write_video
from jaxtyping import UInt8

import wm_gym  # noqa: F401  registers the environments
from fog_agent import FoG
from wm_gym.envs.window import Window

Picture: TypeAlias = "UInt8[np.ndarray, 'h w c']"


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
    try:
        policy = FoG.load(config.policy)
    except (OSError, ValueError) as error:
        raise SystemExit(f"watch.py: {error}") from None
    if config.out is None:
        _check_display()
    env = gym.make(
        config.env_id, obs_type="latent", world_model=config.world_model, horizon=config.steps,
        render_mode="rgb_array",
    )  # fmt: skip
    fps = config.speed * env.metadata["render_fps"]
    window, pictures = Window(f"{config.policy} in {config.env_id}", fps), list[Picture]()
    show = pictures.append if config.out else functools.partial(shown, window)
    try:
        for seed in range(config.seed, config.seed + config.episodes):
            best = watched(env, policy, seed, show)
            print(f"seed {seed}: best coverage {best:.2f}")
    except KeyboardInterrupt:
        raise SystemExit("closed") from None
    finally:
        window.close()
        env.close()
    if config.out is not None:
        write_video(pictures, config.out, fps=fps)
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


def shown(window: Window, picture: Picture) -> None:
    """KeyboardInterrupt, as if it had been stopped by hand, where the window was closed."""
    window.show(picture)
    if pygame.event.get(pygame.QUIT):
        raise KeyboardInterrupt


def watched(
    env: gym.Env[np.ndarray, np.ndarray],
    policy: FoG,
    seed: int,
    show: Callable[[Picture], object],
) -> float:
    """An episode's best coverage."""
    obs, info = env.reset(seed=seed)
    over = False
    while not over:
        action, _ = policy.predict(obs)
        obs, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        picture: Any = env.render()
        show(picture)
    return float(info["best_coverage"])


if __name__ == "__main__":
    main(tyro.cli(Watch))
