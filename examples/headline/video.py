"""Policies on the real system, side by side; below each, what the dream makes of its actions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium as gym
import numpy as np
from jaxtyping import Float, Float32, UInt8
from matplotlib.colors import to_rgb
from moviepy import VideoClip
from PIL import Image, ImageDraw

from headline.plots import colours
from wm_gym.evaluation.judge import Policy
from wm_gym.systems import PUSH_T

if TYPE_CHECKING:
    from wm_gym.models.world_model import WorldModel

SPEED = 3
"""Times the real system's."""

_ENLARGED = 3
_SIDE = _ENLARGED * PUSH_T.frame_shape[0]
_NAME, _CAPTION, _GAP, _FOOT = 32, 26, 8, 40
_SMALL = 190
_INK, _PAPER = (40, 40, 40), 255

WorldModelName: TypeAlias = "str | Path | WorldModel"


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """An episode as somebody watches it: steps + 1 frames, from the start."""

    frames: UInt8[np.ndarray, "t h w c"]
    coverage: Float[np.ndarray, "t"]

    @property
    def best(self) -> Float[np.ndarray, "t"]:
        """So far."""
        return np.maximum.accumulate(self.coverage)


def film(
    policies: Mapping[str, Policy], world_model: WorldModelName, out: Path, *, seed: int, steps: int
) -> None:
    """One seeded start for all; each dream sees its first frame, and then only the actions."""
    columns = {}
    for name, policy in policies.items():
        actions = acted(policy, world_model, seed=seed, steps=steps)
        columns[name] = played(actions, world_model, seed=seed)
    write_video(film_frames(columns), out, fps=SPEED * PUSH_T.fps)


def moving_picture(
    policy: Policy, world_model: WorldModelName, out: Path, *, seeds: Sequence[int], steps: int
) -> None:
    """A policy where it learned and, from the same starts, where it never did: a small GIF."""
    columns = [
        [watched(policy, env_id, world_model, seed=seed, steps=steps) for seed in seeds]
        for env_id in ("WM-PushT-v0", "Real-PushT-v0")
    ]
    names = ("in the dream, where it learned", "on the real system, where it never did")
    pages = []
    for t in range(0, steps + 1, 2):
        strips = [_strip(name, row, t) for name, row in zip(names, columns, strict=True)]
        pages.append(Image.fromarray(np.concatenate(strips)))
    palette = pages[-1].quantize(128, dither=Image.Dither.NONE)
    first, *rest = [page.quantize(palette=palette, dither=Image.Dither.NONE) for page in pages]
    out.parent.mkdir(parents=True, exist_ok=True)
    first.save(
        out, save_all=True, append_images=rest, duration=2000 // (SPEED * PUSH_T.fps), loop=0
    )


def watched(
    policy: Policy, env_id: str, world_model: WorldModelName, *, seed: int, steps: int
) -> Shown:
    """One episode from a start of the real system's, as people see it."""
    frame, _ = gym.make("Real-PushT-v0").reset(seed=seed)
    env = gym.make(
        env_id, obs_type="latent", world_model=world_model, horizon=steps, render_mode="rgb_array"
    )
    dreams = env_id.startswith("WM")
    obs, info = env.reset(seed=seed, options={"frames": frame[None]} if dreams else None)
    frames, coverage, state, begun = [_small(env.render())], [info["coverage"]], None, True
    for _ in range(steps):
        action, state = policy.predict(obs[None], state, np.array([begun]), deterministic=True)
        obs, _, terminated, _, info = env.step(action[0])
        begun = False
        frames.append(_small(env.render()))
        coverage.append(info["coverage"])
        if terminated:
            break
    env.close()
    return Shown(frames=np.stack(frames), coverage=np.array(coverage))


def _small(picture: Any) -> UInt8[np.ndarray, "h w c"]:
    shrunk = Image.fromarray(np.asarray(picture)).resize((_SMALL, _SMALL), Image.Resampling.BOX)
    return np.asarray(shrunk)


def _strip(name: str, row: Sequence[Shown], t: int) -> UInt8[np.ndarray, "h w c"]:
    page = Image.new("RGB", (len(row) * (_SMALL + _GAP) + _GAP, _SMALL + _CAPTION), (_PAPER,) * 3)
    pen = ImageDraw.Draw(page)
    pen.text((_GAP, _CAPTION / 2), name, _INK, anchor="lm", font_size=15)
    time = f"{t / PUSH_T.fps:.0f} s; mean coverage {np.mean([s.coverage[t] for s in row]):.2f}"
    pen.text((page.width - _GAP, _CAPTION / 2), time, _INK, anchor="rm", font_size=15)
    for number, shown in enumerate(row):
        left = _GAP + number * (_SMALL + _GAP)
        page.paste(Image.fromarray(shown.frames[t]), (left, _CAPTION))
    return np.asarray(page)


def write_video(pictures: Sequence[UInt8[np.ndarray, "h w c"]], out: Path, *, fps: float) -> None:
    """All of them: an ImageSequenceClip can lose its last picture to rounding, and that is how it
    ended."""
    out.parent.mkdir(parents=True, exist_ok=True)
    clip = VideoClip(lambda t: pictures[round(t * fps)], duration=(len(pictures) + 0.5) / fps)
    clip.write_videofile(str(out), fps=fps, logger=None)


def acted(
    policy: Policy, world_model: WorldModelName, *, seed: int, steps: int
) -> Float32[np.ndarray, "t a"]:
    """What the policy does in the real system, at its best."""
    env = gym.make_vec(
        "Real-PushT-v0", num_envs=1, obs_type="latent", world_model=world_model, horizon=steps
    )
    obs, _ = env.reset(seed=seed)
    state, begun, actions = None, np.ones(1, bool), []
    for _ in range(steps):
        action, state = policy.predict(obs, state, begun, deterministic=True)
        obs, *_ = env.step(action)
        begun = np.zeros(1, bool)
        actions.append(action[0])
    env.close()
    return np.stack(actions).astype(np.float32)


def played(
    actions: Float32[np.ndarray, "t a"], world_model: WorldModelName, *, seed: int
) -> tuple[Shown, Shown]:
    """The same actions in the real system and, from its first frame, in the dream."""
    horizon = len(actions)
    real = gym.make("Real-PushT-v0", horizon=horizon)
    true = _shown(real, actions, seed=seed)
    dream = gym.make("WM-PushT-v0", world_model=world_model, horizon=horizon, ends=False)
    first = {"frames": true.frames[:1], "actions": actions[:0]}
    return true, _shown(dream, actions, seed=seed, options=first)


def _shown(
    env: gym.Env[np.ndarray, np.ndarray],
    actions: Float32[np.ndarray, "t a"],
    *,
    seed: int,
    options: dict[str, np.ndarray] | None = None,
) -> Shown:
    obs, info = env.reset(seed=seed, options=options)
    frames, coverage = [obs], [info["coverage"]]
    for action in actions:
        obs, *_, info = env.step(action)
        frames.append(obs)
        coverage.append(info["coverage"])
    env.close()
    return Shown(frames=np.stack(frames), coverage=np.array(coverage))


def film_frames(columns: Mapping[str, tuple[Shown, Shown]]) -> list[UInt8[np.ndarray, "h w c"]]:
    """A column a policy: its name, the real system, the dream; captions run along."""
    steps = min(len(shown.frames) for pair in columns.values() for shown in pair)
    return [_page(columns, t) for t in range(steps)]


def _page(columns: Mapping[str, tuple[Shown, Shown]], t: int) -> UInt8[np.ndarray, "h w c"]:
    width = len(columns) * (_SIDE + _GAP) + _GAP
    height = _NAME + 2 * (_CAPTION + _SIDE) + _FOOT
    page = Image.new("RGB", (width, height), (_PAPER,) * 3)
    pen = ImageDraw.Draw(page)
    colour = colours(list(columns))
    for number, (name, pair) in enumerate(columns.items()):
        left, top = _GAP + number * (_SIDE + _GAP), _NAME
        ink = tuple(round(255 * part) for part in to_rgb(colour[name]))
        pen.text((left + _SIDE / 2, _NAME / 2), name, ink, anchor="mm", font_size=20)
        for where, shown in zip(("real", "dream"), pair, strict=True):
            _caption(pen, (left, top), where, shown, t)
            page.paste(_enlarged(shown.frames[t]), (left, top + _CAPTION))
            top += _CAPTION + _SIDE
    foot = (
        f"{t / PUSH_T.fps:.1f} s, {SPEED} times real speed\n"
        "dream: shown the first frame, then only actions"
    )
    pen.multiline_text((_GAP, height - _FOOT + 4), foot, _INK, font_size=13)
    return np.asarray(page)


def _caption(
    pen: ImageDraw.ImageDraw, at: tuple[int, int], where: str, shown: Shown, t: int
) -> None:
    left, middle = at[0], at[1] + _CAPTION / 2
    figures = f"coverage {shown.coverage[t]:.2f}, best {shown.best[t]:.2f}"
    pen.text((left, middle), where, _INK, anchor="lm", font_size=16)
    pen.text((left + _SIDE, middle), figures, _INK, anchor="rm", font_size=16)


def _enlarged(frame: UInt8[np.ndarray, "h w c"]) -> Image.Image:
    return Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
