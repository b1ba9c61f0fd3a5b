"""A first look: log a little play, print what it covers, and film play beside an expert.

python examples/first_look.py             # half a minute; writes out/first_look
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro
from headline.video import write_video
from PIL import Image

from wm_gym.data import Dataset
from wm_gym.data.card import card_text, dataset_card, draw_card
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.numbers import check_least
from wm_gym.programs.progress import Bar
from wm_gym.systems import PUSH_T, Pilot

SECONDS_AFTER_SUCCESS = 2


@dataclass(frozen=True, kw_only=True)
class FirstLook:
    out: Path = Path("out/first_look")
    """Where everything is written."""

    episodes: int = 40
    """Episodes of play to log."""

    steps: int = 150
    """Length of an episode; 150 steps are 30 s."""

    seed: int = 0
    """Of the episodes and of the film."""

    gif: Path | None = None
    """Write the film here too, small, for a README."""

    def __post_init__(self) -> None:
        check_least(1, episodes=self.episodes, steps=self.steps)
        check_least(0, seed=self.seed)


def main(config: FirstLook) -> None:
    recipe = Recipe(episodes=config.episodes, steps=config.steps, seed=config.seed)
    folder = config.out / f"play-{config.episodes}x{config.steps}-seed{config.seed}"
    with Bar(total=recipe.episodes, desc="logging play", unit="episode") as bar:
        for _ in collect_episodes(recipe, folder):
            bar.update()
    dataset = Dataset.open(folder)
    print(card_text(dataset_card(dataset)))
    picture, video = config.out / "card.png", config.out / "push_t.mp4"
    draw_card(dataset, PUSH_T.state_names).savefig(picture, dpi=80)
    clips = [film(name, config) for name in ("push", "expert")]
    length = max(len(clip) for clip in clips)
    still = [np.pad(clip, ((0, length - len(clip)), *[(0, 0)] * 3), mode="edge") for clip in clips]
    frames = list(np.concatenate(still, axis=2))
    write_video(frames, video, fps=10)
    if config.gif is not None:
        small, *rest = [Image.fromarray(frame[::2, ::2]) for frame in frames]
        small.save(config.gif, save_all=True, append_images=rest, duration=100, loop=0)
    print(f"picture: {picture}\nvideo:   {video}  (left: play, right: expert; twice real speed)")


def film(behaviour: str, config: FirstLook) -> np.ndarray:
    """One episode, as people see it."""
    env = gym.make("Real-PushT-v0", render_mode="rgb_array", horizon=config.steps)
    pilot = PUSH_T.behaviours[behaviour](np.random.default_rng(config.seed))
    return np.stack(list(pictures(env, pilot, config.seed)))


def pictures(env: gym.Env[np.ndarray, np.ndarray], pilot: Pilot, seed: int) -> Iterator[np.ndarray]:
    next(pilot)
    _, info = env.reset(seed=seed)
    left = SECONDS_AFTER_SUCCESS * env.metadata["render_fps"]
    yield np.asarray(env.render())
    truncated = False
    while not truncated and left:
        action = pilot.send(info)
        assert action is not None, "a behaviour yields a start once, then actions"
        *_, truncated, info = env.step(action)
        left -= info["is_success"]
        yield np.asarray(env.render())


if __name__ == "__main__":
    main(tyro.cli(FirstLook))
