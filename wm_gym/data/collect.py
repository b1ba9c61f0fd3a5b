"""Logging a dataset: any pixel environment, driven by behaviours, on all cores.

Episode number e depends on (recipe, e) alone, so the data is the same whatever the number of
workers, and a run that was stopped goes on where it was.
"""

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from wm_gym.data.episode import Episode
from wm_gym.data.facts import fact_columns, facts_in_common, facts_told
from wm_gym.data.pixels import UnitActions, make_pixel_env
from wm_gym.data.proprio import felt_in, names_of
from wm_gym.data.spec import DatasetSpec, Fact
from wm_gym.data.staged import Stages
from wm_gym.data.store import DatasetWriter
from wm_gym.data.workers import begin_as_worker, starting_workers
from wm_gym.systems import Behaviour, System
from wm_gym.systems.behaviours import noisy, smooth
from wm_gym.systems.origin import rate
from wm_gym.types import Info

RECIPE_VERSION = 1
"""Bumped when equal recipes come to mean other episodes; part of what a dataset says it is."""

_OPTIONAL = {"picture": None, "repeat": 1, "proprioception": False, "scenario": None}
"""Settings that came later: at these they say nothing, so that older data is still the same."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to log. With the package's version it determines every byte of the content."""

    env_id: str = "Real-PushT-v0"
    """Any Gymnasium id with a Box of actions; `module:Id-v0` imports the module first."""

    episodes: int = 100
    """How many episodes to log."""

    behaviours: tuple[str, ...] = ()
    """Who acts, an equal share of episodes each: names (smooth, noisy; Push-T has push, correct and
    expert, too) or `module:function`s of yours. Without any: the environment's usual ones."""

    split: str = "play"
    """Name of the split that the dataset says its episodes are of."""

    steps: int = 150
    """Steps after which an episode is cut."""

    seed: int = 0
    """Seed of all episodes: equal seeds log equal episodes."""

    env_kwargs: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    """Arguments for `gymnasium.make`, each as a name and a value."""

    picture: tuple[int, int] | None = None
    """Height and width that pictures are resized to; without it large ones become 96 pixels."""

    repeat: int = 1
    """Steps of the environment that an action is held for; rewards are summed."""

    proprioception: bool = False
    """Log what the robot feels of itself beside each picture, as LeRobot's `observation.state`:
    what a registered system declares (Push-T: the tool's x and y), or `agent_pos` of observations
    that are dictionaries. Without it no such column is written, and data is what it always was."""

    scenario: str | None = None
    """Stage this scenario of a registered system, in place of behaviours; several episodes in a row
    may be takes of one case."""

    def __post_init__(self) -> None:
        for name in ("episodes", "steps", "repeat"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        if self.picture is not None and min(self.picture) < 1:
            raise ValueError(f"picture is {self.picture}, expected a height and a width")
        if self.scenario is not None and (self.behaviours or self.env_kwargs or self.repeat > 1):
            raise ValueError("a scenario has its own behaviours, and takes no env_kwargs or repeat")

    def asked(self) -> dict[str, Any]:
        """For the record of a dataset."""
        return {k: v for k, v in asdict(self).items() if k not in _OPTIONAL or v != _OPTIONAL[k]}


@dataclass(frozen=True, kw_only=True)
class Logged:
    """One episode that is on the disk."""

    number: int
    frames: int
    behaviour: str


def collect_episodes(
    recipe: Recipe, folder: Path, *, workers: int | None = None
) -> Iterator[Logged]:
    """Log what is still missing in the folder, then pack it; yields as episodes are finished.

    Stopping the iteration loses nothing but the episodes at work. It starts processes, so a script
    that calls it needs `if __name__ == "__main__":`.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1")
    source = Source(recipe)
    writer = DatasetWriter(folder, source.spec())
    takes = source.takes
    source.close()
    missing = set(range(recipe.episodes)) - writer.finished()
    cases = sorted({number // takes for number in missing})
    if cases:
        workers = min(workers or os.cpu_count() or 1, len(cases))
        yield from _spread(recipe, folder, cases, workers)
    writer.finalize()


def _spread(recipe: Recipe, folder: Path, cases: list[int], workers: int) -> Iterator[Logged]:
    context = multiprocessing.get_context("spawn")  # forking a process with threads can hang
    with starting_workers():
        pool = ProcessPoolExecutor(workers, context, _begin_work, (recipe, folder))
    with pool:
        todo, running = iter(cases), set[Future[list[Logged]]]()
        try:
            while True:
                with starting_workers():
                    while len(running) < 2 * workers and (case := next(todo, None)) is not None:
                        running.add(pool.submit(_work, case))
                if not running:
                    return
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield from future.result()
        except BrokenProcessPool as error:
            raise RuntimeError(
                "a worker process died; what was finished is safe. It was killed (out of memory?), "
                "or the script that logs lacks `if __name__ == '__main__':`, or the environment is "
                "registered in that script alone: give its id as module:Id-v0"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Source:
    """An environment and its behaviours, ready to record any episode of a recipe."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.env = make_pixel_env(
            recipe.env_id, steps=recipe.steps, picture=recipe.picture, repeat=recipe.repeat,
            kwargs=recipe.env_kwargs, proprioception=recipe.proprioception,
        )  # fmt: skip
        (self.action_size,) = self.env.action_space.shape or ()
        self.system: System | None = getattr(self.env.unwrapped, "system", None)
        self.stages = None if recipe.scenario is None else self._staged(recipe.scenario)
        self.shares = self._shares()
        self.bounds = next(
            (e.bounds for e in _layers(self.env) if isinstance(e, UnitActions)), None
        )

    def _staged(self, scenario: str) -> Stages:
        recipe, spec = self.recipe, self.env.unwrapped.spec
        if self.system is None or spec is None:
            raise ValueError(f"{recipe.env_id} is of no registered system, so has no scenarios")
        stages = Stages(
            self.system, spec.kwargs["simulator"], scenario, seed=recipe.seed, split=recipe.split,
            felt=recipe.proprioception,
        )  # fmt: skip
        if recipe.episodes % stages.scenario.takes:
            raise ValueError(
                f"episodes is {recipe.episodes}, expected a multiple of {stages.scenario.takes}, "
                f"the takes of a case of {scenario}"
            )
        return stages

    @property
    def takes(self) -> int:
        """Episodes in a row that are recorded together."""
        return 1 if self.stages is None else self.stages.scenario.takes

    def _shares(self) -> dict[str, float]:
        if self.stages is not None:
            return {}
        names = self.recipe.behaviours
        unknown = {name for name in names if ":" not in name} - set(self._behaviours())
        if unknown:
            raise ValueError(
                f"{self.recipe.env_id} has no behaviours {sorted(unknown)}, "
                f"expected some of {sorted(self._behaviours())}"
            )
        if not names and self.system is not None:
            return dict(self.system.play)
        return dict.fromkeys(names or self._behaviours(), 1.0)

    def _behaviours(self) -> Mapping[str, Behaviour]:
        if self.system is not None:
            return self.system.behaviours
        return {"smooth": smooth(self.action_size), "noisy": noisy(self.action_size)}

    def _behaviour(self, name: str) -> Behaviour:
        module, _, own = name.rpartition(":")
        if not module:
            return self._behaviours()[name]
        found: Behaviour = getattr(import_module(module), own)
        return found

    @property
    def tasks(self) -> tuple[str, ...]:
        """Sentences, by index, where there are several: they are dealt out in turn."""
        tasks = () if self.system is None else self.system.tasks
        return tuple(task.description for task in tasks) if len(tasks) > 1 else ()

    def _felt(self, info: Info) -> np.ndarray | None:
        """None where nobody asked for it."""
        if not self.recipe.proprioception:
            return None
        return felt_in(info, self.system, self.recipe.env_id)

    @cached_property
    def _proprio_names(self) -> tuple[str, ...]:
        _, info = self.env.reset(seed=0)
        felt = self._felt(info)
        return () if felt is None else names_of(felt, self.system)

    @cached_property
    def _seen(self) -> tuple[tuple[int, int, int], dict[str, Fact]]:
        """A picture's shape, and the facts that a reset and a first step both tell."""
        obs, info = self.env.reset(seed=0)
        shape, told = obs.shape, facts_told(info)
        *_, info = self.env.step(np.zeros(self.action_size, np.float32))
        return shape, facts_in_common(told, facts_told(info))

    def spec(self) -> DatasetSpec:
        """What the dataset will hold, found by looking at one reset and one step."""
        picture, facts = self._seen
        return DatasetSpec(
            env_id=self.recipe.env_id,
            fps=self._rate(),
            picture=picture,
            action_size=self.action_size,
            facts=facts if self.stages is None else self.stages.facts,
            robot_type=self.system.name if self.system else self.recipe.env_id,
            recipe={
                **self.recipe.asked(),
                "behaviours": self.shares,
                "versions": _versions(self.system),
            },
            bounds=self.bounds,
            proprio_names=self._proprio_names if self.recipe.proprioception else (),
            tasks=self.tasks,
        )

    def _rate(self) -> int | float:
        """Steps a second; 1 where the environment does not say."""
        told = self.env.metadata.get("render_fps") or 1
        told = told.item() if isinstance(told, np.generic) else told
        return rate(told, f"render_fps of {self.recipe.env_id}") / self.recipe.repeat

    def recorded(self, case: int) -> Iterator[tuple[int, Episode]]:
        """Numbers and episodes of one case: of the recipe's scenario, or simply the next one."""
        return (
            iter([(case, self.record(case))])
            if self.stages is None
            else (self.stages.recorded(case))
        )

    def record(self, number: int) -> Episode:
        """Episode `number` of a recipe of behaviours."""
        drive, start = np.random.SeedSequence((self.recipe.seed, number)).spawn(2)
        seed = int(start.generate_state(1, np.uint32)[0])
        task = number % len(self.tasks) if self.tasks else None
        return self._drive(self._dealt(number), np.random.default_rng(drive), seed, task)

    def _dealt(self, number: int) -> str:
        """Multiples of the golden ratio fill [0, 1) evenly: few episodes have their shares too."""
        names = list(self.shares)
        edges = np.cumsum([self.shares[name] for name in names])
        place = (0.5 + number * (5**0.5 - 1) / 2) % 1 * edges[-1]
        return names[min(int(np.searchsorted(edges, place, side="right")), len(names) - 1)]

    def _drive(self, name: str, rng: np.random.Generator, seed: int, task: int | None) -> Episode:
        """Copies, as environments may go on writing to what they gave, or were given."""
        _, facts = self._seen  # which resets, where nobody has looked yet
        pilot = self._behaviour(name)(rng)
        with _piloted(name, 0):
            state = next(pilot)
        options = {k: v for k, v in {"state": state, "task": task}.items() if v is not None}
        obs, info = self.env.reset(seed=seed, options=options or None)
        frames, told, felt = [np.array(obs)], [facts_told(info)], [self._felt(info)]
        actions, rewards = list[np.ndarray](), list[SupportsFloat]()
        terminated = truncated = False
        while not (terminated or truncated):
            with _piloted(name, len(actions)):
                action = _bounded(pilot.send(info))
            obs, reward, terminated, truncated, info = self.env.step(action.copy())
            frames.append(np.array(obs))
            told.append(facts_told(info))
            felt.append(self._felt(info))
            actions.append(action)
            rewards.append(reward)
        return Episode(
            frames=np.stack(frames),
            action=np.array(actions, np.float32),
            reward=np.array(rewards, np.float32),
            terminated=bool(terminated),
            truncated=bool(truncated),
            facts=fact_columns(facts, told),
            behaviour=name,
            split=self.recipe.split,
            seed=seed,
            task=self._described(task),
            proprio=np.stack([one for one in felt if one is not None]).reshape(len(felt), -1)
            if self.recipe.proprioception
            else None,
        )

    def _described(self, task: int | None) -> str:
        if task is not None:
            return self.tasks[task]
        return str(getattr(self.env.unwrapped, "task_description", self.recipe.env_id))

    def close(self) -> None:
        self.env.close()


def _bounded(unit: np.ndarray | None) -> np.ndarray:
    assert unit is not None, "a behaviour yields a start once, then actions"
    share = (np.clip(unit, -1, 1) + 1) / 2  # equal recipes are to mean equal bits: keep the order
    return np.clip((-1.0 + share * 2.0).astype(np.float32), -1.0, 1.0)


@contextmanager
def _piloted(name: str, taken: int) -> Iterator[None]:
    """A behaviour that ends, or asks for what nobody tells, says so, and not Python for it."""
    try:
        yield
    except KeyError as error:
        raise ValueError(
            f"behaviour {name} asked for {error} after {taken} actions, which this environment's "
            "info does not have: choose others, as --behaviours smooth noisy"
        ) from error
    except StopIteration:
        raise ValueError(
            f"behaviour {name} ended after {taken} actions; yield for ever, the episode ends it"
        ) from None


def _layers(env: gym.Env[Any, Any]) -> Iterator[gym.Env[Any, Any]]:
    """A wrapper, what it wraps, and so on."""
    yield env
    while isinstance(env, gym.Wrapper):
        env = env.env
        yield env


def _versions(system: System | None) -> dict[str, str | int]:
    """Of all that decides what an episode is."""
    own = system.packages if system else ()
    packages = ("wm-gym", "gymnasium", "numpy", "pygame", "pymunk", *own)
    return {"recipe": RECIPE_VERSION, **{name: version(name) for name in packages}}


_worker: tuple[Source, DatasetWriter]


def _begin_work(recipe: Recipe, folder: Path) -> None:
    global _worker
    begin_as_worker()
    source = Source(recipe)
    _worker = source, DatasetWriter(folder, source.spec())


def _work(case: int) -> list[Logged]:
    source, writer = _worker
    logged = []
    for number, episode in source.recorded(case):
        if not writer.holds(number):  # another run may have been quicker
            writer.add(number, episode)
            frames, behaviour = len(episode.frames), episode.behaviour
            logged.append(Logged(number=number, frames=frames, behaviour=behaviour))
    return logged
