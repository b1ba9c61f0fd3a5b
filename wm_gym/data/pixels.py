"""Any environment as a world model takes it: pictures of a size that suits, actions in [−1, 1]."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import AddRenderObservation
from jaxtyping import Float32, UInt8
from PIL import Image

from wm_gym.data.proprio import FeltInInfo, is_picture, shows_and_feels
from wm_gym.systems import Bounds
from wm_gym.systems.cells import cells_fit
from wm_gym.types import Info

LARGEST, SIDE, CELL = 128, 96, 6
"""Pixels: pictures up to the first are kept; larger ones become the second, in multiples of the
third, so that a model's cells fit."""


MOST_PIXELS = 2**25
"""Of a picture in data that others wrote: 8K, and no more however little room it takes there."""

SHOWN: Mapping[str, Any] = {"render_mode": "rgb_array"}


def make_pixel_env(
    env_id: str,
    *,
    steps: int,
    picture: tuple[int, int] | None = None,
    repeat: int = 1,
    kwargs: Mapping[str, Any] | None = None,
    proprioception: bool = False,
) -> gym.Env[np.ndarray, np.ndarray]:
    """The environment with pictures for observations, its own or else what it renders, cut after
    `steps`; an action is flat, within [−1, 1], and held for `repeat` of the environment's steps.

    `proprioception`: of observations {"pixels", "agent_pos"} the picture is one, and `info` tells
    the other.
    """
    module, _, plain_id = env_id.rpartition(":")
    if module:
        _import_named(module)
    given = dict(kwargs or {})
    if str(gym.spec(plain_id).entry_point).startswith("wm_gym.envs:"):
        given = {"horizon": steps * repeat, **given}
    env = _made(plain_id, given)
    if proprioception and shows_and_feels(env.observation_space):
        env = FeltInInfo(env)
    if not is_picture(env.observation_space):
        if env.render_mode != SHOWN["render_mode"]:
            env.close()
            env = gym.make(plain_id, disable_env_checker=True, **{**SHOWN, **given})
        env = AddRenderObservation(env, render_only=True)
    env = as_unit(env)
    if repeat > 1:
        env = Repeated(env, repeat)
    height, width, _ = env.observation_space.shape or ()
    wanted = picture or suitable_picture(height, width)
    if wanted != (height, width):
        env = Resized(env, wanted)
    return gym.wrappers.TimeLimit(env, steps)


def _import_named(module: str) -> None:
    """Which registers its ids."""
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise
        raise ModuleNotFoundError(
            f"there is no module {module!r} to import: install it, or run this in the folder of "
            f"{module.replace('.', '/')}.py"
        ) from None


def _made(env_id: str, kwargs: Mapping[str, Any]) -> gym.Env[Any, Any]:
    """Without a render mode, as an observed picture needs none; some constructors demand one."""
    try:
        return gym.make(env_id, disable_env_checker=True, **kwargs)
    except Exception as error:
        if "render_mode" in kwargs:
            raise
        try:
            return gym.make(env_id, disable_env_checker=True, **{**SHOWN, **kwargs})
        except Exception:
            raise error from None


def suitable_picture(height: int, width: int) -> tuple[int, int]:
    """As it is where it is small and cells fit on it; else the longer side is `SIDE`."""
    if max(height, width) <= LARGEST and cells_fit(height, width):
        return height, width
    scale = SIDE / max(height, width)
    sides = [CELL * max(1, round(side * scale / CELL)) for side in (height, width)]
    return sides[0], sides[1]


def resized(
    frame: UInt8[np.ndarray, "h w c"], picture: tuple[int, int]
) -> UInt8[np.ndarray, "h2 w2 c"]:
    """Each new pixel is the mean of what it covers."""
    height, width = picture
    image = Image.fromarray(frame.squeeze(-1) if frame.shape[-1] == 1 else frame)
    smaller = image.resize((width, height), Image.Resampling.BOX)
    return np.asarray(smaller).reshape(height, width, frame.shape[-1])


def fitted(
    frame: UInt8[np.ndarray, "h w c"], picture: tuple[int, int] | None
) -> UInt8[np.ndarray, "h2 w2 c"]:
    """Of that height and width, or else of those that suit."""
    height, width = frame.shape[:2]
    wanted = picture or suitable_picture(height, width)
    return frame if wanted == (height, width) else resized(frame, wanted)


def check_pixels(height: int, width: int, *, most: int) -> None:
    """Before a picture of others is decoded: a few bytes can inflate to much."""
    if height * width > most:
        raise ValueError(f"a picture has {height}×{width} pixels, expected {_promised(most)}")


def _promised(most: int) -> str:
    return f"at most {most:,}, as the data are said to have; get them anew"


@contextmanager
def bounded_pictures(most: int) -> Iterator[None]:
    """Pillow decodes no picture of more pixels, whoever asks it; its bound is the whole process's,
    so this is not for threads."""
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = most
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"a picture has too many pixels, expected {_promised(most)}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = before


class Resized(gym.ObservationWrapper[np.ndarray, Any, np.ndarray]):
    """With pictures of another size."""

    def __init__(self, env: gym.Env[np.ndarray, Any], picture: tuple[int, int]) -> None:
        super().__init__(env)
        self.picture = picture
        shape = env.observation_space.shape or ()
        self.observation_space = spaces.Box(0, 255, (*picture, shape[-1]), np.uint8)

    def observation(self, observation: np.ndarray) -> UInt8[np.ndarray, "h w c"]:
        return resized(observation, self.picture)


class UnitActions(gym.ActionWrapper[Any, np.ndarray, Any]):
    """With flat actions within [−1, 1], which are what the environment takes at its bounds."""

    def __init__(self, env: gym.Env[Any, Any], bounds: Bounds) -> None:
        super().__init__(env)
        self.bounds = bounds
        self.action_space = spaces.Box(-1.0, 1.0, (len(bounds.low),), np.float32)

    def action(self, action: Float32[np.ndarray, "a"]) -> np.ndarray:
        space = self.env.action_space
        assert isinstance(space, spaces.Box)
        told = self.bounds.from_unit(np.clip(action, -1, 1).astype(np.float64))
        return np.clip(told.reshape(space.shape).astype(space.dtype), space.low, space.high)


def as_unit(env: gym.Env[Any, Any]) -> gym.Env[Any, np.ndarray]:
    """The same where its actions are flat numbers within [−1, 1] already."""
    space = env.action_space
    if not isinstance(space, spaces.Box) or space.dtype.kind != "f" or not space.is_bounded():
        env.close()
        how = "" if isinstance(space, spaces.Box) else ": a wrapper can make one, docs/own_world.md"
        raise ValueError(
            f"{env.spec.id if env.spec else env} has actions {space}, "
            f"expected a bounded Box of floats{how}"
        )
    still = np.argwhere(space.low >= space.high)
    if len(still):
        env.close()
        raise ValueError(
            f"{env.spec.id if env.spec else env} has actions {space}, whose entry "
            f"{', '.join(map(str, still[0]))} is always {space.low[tuple(still[0])]:g}, expected "
            "each low below its high: wrap the environment so that this is no action"
        )
    own = (space.low == -1).all() and (space.high == 1).all() and space.dtype == np.float32
    if own and len(space.shape) == 1:
        return env
    low, high = (tuple(np.ravel(edge).tolist()) for edge in (space.low, space.high))
    return UnitActions(env, Bounds(low=low, high=high))


class Repeated(gym.Wrapper[Any, Any, Any, Any]):
    """Holds an action for several steps, until the episode ends; their rewards are summed."""

    def __init__(self, env: gym.Env[Any, Any], repeat: int) -> None:
        super().__init__(env)
        self.repeat = repeat

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, Info]:
        total = 0.0
        for _ in range(self.repeat):
            obs, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return obs, total, terminated, truncated, info
