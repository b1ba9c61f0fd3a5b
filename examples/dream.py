"""The dream beside the real system: the same start, the same actions, no peeking in between.

python examples/dream.py             # seconds; writes out/dream
"""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import tyro
from headline.video import write_video

from wm_gym.numbers import check_least
from wm_gym.programs.progress import each
from wm_gym.systems import PUSH_T

CONTEXT = PUSH_T.context


@dataclass(frozen=True, kw_only=True)
class Dream:
    out: Path = Path("out/dream")
    """Where the video goes."""

    world_model: Path | None = None
    """A model folder to dream with; the packaged one by default."""

    behaviour: str = "push"
    """Who acts: push, correct, smooth, noisy or expert."""

    episodes: int = 4
    """Side by side in the video."""

    steps: int = 150
    """Length of an episode."""

    seed: int = 0

    def __post_init__(self) -> None:
        check_least(1, episodes=self.episodes, steps=self.steps)
        check_least(0, seed=self.seed)


def main(config: Dream) -> None:
    world_model = "push-t" if config.world_model is None else str(config.world_model)
    real = gym.make("Real-PushT-v0", horizon=config.steps + 1)
    dream = gym.make("WM-PushT-v0", horizon=config.steps + 1, world_model=world_model, ends=False)
    clips = []
    for seed in each(range(config.seed, config.seed + config.episodes), unit="episode"):
        frames, actions, coverage = drive(real, config, seed)
        dreamt, told = redream(dream, frames, actions, seed)
        clips.append(np.concatenate([frames[CONTEXT - 1 :], dreamt], axis=1))
        print(
            f"seed {seed}: coverage at the end {coverage:.2f} in the real system, "
            f"{told['coverage']:.2f} in the dream; expected error {told['uncertainty']:.3f}"
        )
    video = config.out / "real_above_dream.mp4"
    pictures = np.concatenate(clips, axis=2).repeat(2, axis=1).repeat(2, axis=2)
    write_video(list(pictures), video, fps=10)
    print(f"video: {video}  (real above dream, twice real speed)")


def drive(
    env: gym.Env[np.ndarray, np.ndarray], config: Dream, seed: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Frames and actions of a real episode, and its coverage at the end."""
    pilot = PUSH_T.behaviours[config.behaviour](np.random.default_rng(seed))
    start = next(pilot)
    obs, info = env.reset(seed=seed, options=None if start is None else {"state": start})
    frames, actions = [obs], []
    for _ in range(config.steps):
        action = pilot.send(info)
        assert action is not None, "a behaviour yields a start once, then actions"
        obs, *_, info = env.step(action)
        frames.append(obs)
        actions.append(np.float32(action))
    return np.stack(frames), np.stack(actions), info["coverage"]


def redream(
    env: gym.Env[np.ndarray, np.ndarray], frames: np.ndarray, actions: np.ndarray, seed: int
) -> tuple[np.ndarray, dict[str, float]]:
    """What the dream makes of the first frames and all actions."""
    given = {"frames": frames[:CONTEXT], "actions": actions[: CONTEXT - 1]}
    obs, info = env.reset(seed=seed, options=given)
    dreamt = [obs]
    for action in actions[CONTEXT - 1 :]:
        obs, *_, info = env.step(action)
        dreamt.append(obs)
    return np.stack(dreamt), info


if __name__ == "__main__":
    main(tyro.cli(Dream))
