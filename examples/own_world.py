"""Your own world: log any environment that can be seen, and dream it, differentiably.

python examples/own_world.py pendulum     # Gymnasium's own, nothing to install
python examples/own_world.py mountain-car # the same; its episodes end by themselves
python examples/own_world.py reacher      # pip install 'gymnasium[mujoco]'
python examples/own_world.py car-racing   # pip install swig, then 'gymnasium[box2d]'
python examples/own_world.py pendulum --recipe.env-id yours:Env-v0 --out out/mine

It goes on where it was stopped, and shows real above dream and a gradient; docs/own_world.md.
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
import torch
import tyro
from headline.video import write_video
from jaxtyping import UInt8

import wm_gym  # noqa: F401
from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe
from wm_gym.data.episode import Episode
from wm_gym.envs.dream import DreamEnv
from wm_gym.models.folder import WORLD_MODEL
from wm_gym.numbers import check_least
from wm_gym.programs.collect import Job, collect
from wm_gym.programs.evaluate import Evaluate, evaluate
from wm_gym.programs.train import train
from wm_gym.training.keypoints.settings import PRESETS as TRAINING
from wm_gym.training.keypoints.settings import KeypointTraining

TEST = "test"
"""The folder of episodes that nobody learned from."""

WORTH_SEEING = 20
"""Frames of an episode; the first of those is filmed."""

ENOUGH = 100
"""Updates of the global model below which nothing can have been learned."""


def settings(preset: str) -> KeypointTraining:
    """Of `wm-gym train`, whose data and folder are not known yet."""
    return replace(TRAINING[preset][1], data=Path(), out=Path())


@dataclass(frozen=True, kw_only=True)
class OwnWorld:
    recipe: Recipe
    """What to log."""

    test_episodes: int = 60
    """More of it, which is never trained on: dreams are judged there."""

    workers: int | None = None
    """Processes that log, which begin with seconds of imports; all cores by default."""

    train: tyro.conf.Suppress[KeypointTraining] = field(default_factory=lambda: settings("quick"))
    rollouts: int = 200
    """How many dreams are judged."""

    window: int = 8
    """Steps that a gradient goes through."""

    filmed: int = 60
    """Steps of real above dream."""

    out: Path = Path("out/own_world")
    """Where everything goes."""

    def __post_init__(self) -> None:
        check_least(1, test_episodes=self.test_episodes, rollouts=self.rollouts)
        check_least(1, window=self.window, filmed=self.filmed)


PRESETS = {
    "tiny": (
        "A minute or less, learns nothing; used by the tests.",
        OwnWorld(
            recipe=Recipe(env_id="Pendulum-v1", episodes=4, steps=24), test_episodes=2,
            workers=1, train=settings("tiny"),
            rollouts=3, window=3, filmed=6,
        ),
    ),
    "pendulum": (
        "Pendulum-v1: swing a rod by a torque. The rod is all that moves.",
        OwnWorld(
            recipe=Recipe(env_id="Pendulum-v1", episodes=300, steps=100),
            out=Path("out/own_world/pendulum"),
        ),
    ),
    "mountain-car": (
        "MountainCarContinuous-v0: rock a car up a hill. At the flag episodes end, in dreams too.",
        OwnWorld(
            recipe=Recipe(
                env_id="MountainCarContinuous-v0", episodes=600, steps=100, repeat=4,
                behaviours=("own_world_driver:rock", "smooth"),
            ),
            out=Path("out/own_world/mountain-car"),
        ),
    ),
    "reacher": (
        "Reacher-v5: an arm of two joints and a target; needs gymnasium[mujoco].",
        OwnWorld(
            recipe=Recipe(env_id="Reacher-v5", episodes=800, steps=50),
            filmed=40, out=Path("out/own_world/reacher"),
        ),
    ),
    "car-racing": (
        "CarRacing-v3, needs gymnasium[box2d]. It runs, but the view moves as a whole: see limits.",
        OwnWorld(
            recipe=Recipe(
                env_id="CarRacing-v3", episodes=150, steps=200, repeat=4,
                behaviours=("own_world_driver:drive",),
            ),
            out=Path("out/own_world/car-racing"),
        ),
    ),
}  # fmt: skip


def main(config: Annotated[OwnWorld, tyro.conf.arg(name="")]) -> None:
    model = dreamt(config)
    unseen = Dataset.open(config.out / TEST)
    length = unseen.index["length"]
    episode = unseen.episode(int(np.argmax(length >= min(WORTH_SEEING, length.max()))))
    film(model, episode, config.filmed, config.out / "real_above_dream.mp4")
    show_gradient(model, episode.frames[0], config.window)
    if (updates := config.train.global_model.updates) < ENOUGH:
        print(f"{updates} updates teach nothing: no figure above means anything")


def dreamt(config: OwnWorld) -> Path:
    """The folder of a world model: log, log more to judge by, train, judge."""
    data, test = config.out / "data", config.out / TEST
    more = replace(
        config.recipe, episodes=config.test_episodes, seed=config.recipe.seed + 1, split="test"
    )
    for folder, recipe in {data: config.recipe, test: more}.items():
        collect(Job(out=folder, recipe=recipe, workers=config.workers))
    run = config.out / "run"
    train(replace(config.train, data=data, test=test, out=run))
    judge = Evaluate(
        world_model=str(run / WORLD_MODEL), data=(f"test={test}",), out=config.out / "fidelity",
        rollouts=config.rollouts,
    )  # fmt: skip
    evaluate(judge)
    return run / WORLD_MODEL


def film(model: Path, episode: Episode, steps: int, out: Path) -> None:
    """The dream sees the first frames, as many as it looks back on, and then only the actions."""
    frames, actions = episode.frames[: steps + 1], episode.action[:steps]
    dream = gym.make("wm_gym:WM-v0", world_model=model, horizon=len(actions) + 1)
    env = dream.unwrapped
    assert isinstance(env, DreamEnv)
    shown = min(env.system.context, len(actions))
    obs, _ = dream.reset(
        seed=0, options={"frames": frames[:shown], "actions": actions[: shown - 1]}
    )
    painted, ended = [obs], False
    for action in actions[shown - 1 :]:
        obs, _, ended, _, info = dream.step(action)
        painted.append(obs)
        if ended:
            break
    last = shown - 1 + len(painted)
    pair = np.concatenate([frames[shown - 1 : last], np.stack(painted)], axis=1)
    enlarged = pair.repeat(4, axis=1).repeat(4, axis=2)
    write_video(list(enlarged[..., [0, 0, 0]] if pair.shape[-1] == 1 else enlarged), out, fps=10)
    print(f"real above dream: {out}  (expected error by its end: {info['uncertainty']:.3f})")
    if ended or (episode.terminated and len(actions) == len(episode.action)):
        said = f"by itself at step {last - 1}" if ended else f"not within {len(actions)} steps"
        real = f"at step {len(episode.action)}" if episode.terminated else "not"
        print(f"the dream ended {said}, the real episode {real}")


def show_gradient(model: Path, frame: UInt8[np.ndarray, "h w c"], window: int) -> None:
    """Of a few dreamt rewards, by each action before them, and what nudging the dream says."""
    dream = gym.make("wm_gym:WM-v0", world_model=model, obs_type="latent", horizon=window + 1)
    env = dream.unwrapped
    assert isinstance(env, DreamEnv)
    env.reset(seed=0, options={"frames": frame[None]})
    start, size = env.get_state(), env.system.action_size
    actions = torch.zeros(window, size, requires_grad=True)
    total = earned(env, actions)
    total.backward()
    assert actions.grad is not None

    def nudged(place: tuple[int, ...], by: float) -> float:
        env.set_state(start)
        other = actions.detach().clone()
        other[place] += by
        with torch.no_grad():
            return float(earned(env, other))

    delta = 0.1
    nudges = torch.zeros_like(actions)
    for place in np.ndindex(window, size):
        nudges[place] = (nudged(place, delta) - nudged(place, -delta)) / (2 * delta)
    print(f"sum of {window} dreamt rewards: {total.item():.3f}; its gradient, by action:")
    for step, (slope, truth) in enumerate(zip(actions.grad, nudges, strict=True)):
        print(f"  {step}  step_with_grad {told(slope)}   nudging the dream {told(truth)}")
    alike = torch.cosine_similarity(actions.grad.flatten(), nudges.flatten(), dim=0)
    print(f"cosine between the two: {alike:.2f}")


def earned(env: DreamEnv, actions: torch.Tensor) -> Any:
    """Differentiable in the actions; until the dream ends."""
    env.begin_window()
    rewards = list[torch.Tensor]()
    for action in actions:
        out = env.step_with_grad(action)
        rewards.append(out.reward)
        if out.terminated:
            break
    return torch.stack(rewards).sum()


def told(numbers: torch.Tensor) -> str:
    return " ".join(f"{number:+8.4f}" for number in numbers.tolist())


if __name__ == "__main__":
    config = tyro.extras.overridable_config_cli(PRESETS)
    try:
        main(config)
    except (gym.error.Error, ImportError) as error:  # which say what there is to install
        sys.exit(f"{config.recipe.env_id} cannot be made: {error}")
