"""One environment: the Gymnasium shell around a world of one system."""

from typing import Any

import gymnasium as gym
import numpy as np
from jaxtyping import Float, UInt8

from wm_gym.envs.actions import checked_action
from wm_gym.envs.episodes import EnvState, Episodes, Move, Rules
from wm_gym.envs.window import Window
from wm_gym.envs.world import World, checked_options, checked_render_mode, picked
from wm_gym.types import Info

_ALL = np.ones(1, bool)


class WorldEnv(gym.Env[Any, np.ndarray]):
    """Any world of one system as a `gymnasium.Env`."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array", "human"]}  # noqa: RUF012

    def __init__(self, world: World, rules: Rules, *, render_mode: str | None) -> None:
        system = world.system
        self.metadata = {**self.metadata, "render_fps": system.fps}
        self.render_mode = checked_render_mode(render_mode, self.metadata["render_modes"])
        self.observation_space, self.action_space = world.observation_space, system.action_space
        self.system = system
        self._episodes = Episodes(world, rules)
        self._window: Window | None = None

    @property
    def task(self) -> str:
        """What is asked now, in a sentence."""
        return str(self.system.tasks[int(self._episodes.world.noted().task()[0])].description)

    @property
    def task_description(self) -> str:
        """The same, under LeRobot's name."""
        return self.task

    @property
    def _max_episode_steps(self) -> int:
        return self._episodes.rules.horizon

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        given = self._episodes.world.given(checked_options(options))
        super().reset(seed=seed)
        seeds = [self.np_random_seed if seed is not None else None]
        self._episodes.rngs[0] = self.np_random
        self._episodes.seeds[0] = self.np_random_seed
        self._episodes.begin(_ALL, seeds=seeds, given=given)
        assert self._episodes.rngs[0] is not None
        self._np_random = self._episodes.rngs[0]
        self._show()
        return self._obs(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        assert self.action_space.shape is not None
        action = checked_action(action, self.action_space.shape, axes="action_space.shape")
        world = self._episodes.world
        reward, *ends = self._stepped(lambda which: world.advance(action[None], which))
        assert reward is not None
        return self._obs(), float(reward[0]), *ends, self._info()

    def _stepped(self, move: Move) -> tuple[Float[np.ndarray, "b"] | None, bool, bool]:
        """One step, however the world moves."""
        self._episodes.check_begun()
        self._episodes.check_running()
        reward, terminated, truncated = self._episodes.advance(_ALL, move)
        self._show()
        return reward, bool(terminated[0]), bool(truncated[0])

    def render(self) -> UInt8[np.ndarray, "h2 w2 c"] | None:
        self._episodes.check_begun()
        if self.render_mode == "rgb_array":
            return self._episodes.world.picture(0)
        if self.render_mode is None:
            gym.logger.warn("render() shows nothing without a render_mode, e.g. 'rgb_array'")
        return None

    def get_state(self) -> EnvState:
        """All that the future of this environment depends on, random generator included."""
        return self._episodes.snapshot(0)

    def set_state(self, state: Any) -> None:
        """Go on from a snapshot, of this or any other environment of the system."""
        self._episodes.check_state(state)
        self._episodes.restore(0, state)
        self._np_random, self._np_random_seed = self._episodes.rngs[0], state.seed

    def close(self) -> None:
        if self._window is not None:
            self._window.close()
            self._window = None

    def _obs(self) -> Any:
        return picked(self._episodes.world.observations(_ALL), 0)

    def _info(self) -> Info:
        info = {name: values[0] for name, values in self._episodes.info().items()}
        return {k: v.item() if np.ndim(v) == 0 else v for k, v in info.items()}

    def _show(self) -> None:
        if self.render_mode == "human":
            self._window = self._window or Window(
                self.system.name, float(self.metadata["render_fps"])
            )
            self._window.show(self._episodes.world.picture(0))
