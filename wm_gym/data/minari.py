"""Minari datasets with pictures, as episodes of ours; and ours as theirs."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import UInt8

from wm_gym.data.collect import FACTS
from wm_gym.data.dataset import Dataset
from wm_gym.data.episode import Episode
from wm_gym.data.pixels import is_picture, resized, suitable_picture
from wm_gym.data.scaling import bounds_of, share_beyond, told
from wm_gym.data.spec import DatasetSpec, Fact
from wm_gym.systems import Bounds


def load_minari(name: str | Path) -> Any:
    """A `minari.MinariDataset`: of a dataset's id in the local store, or of its folder."""
    minari = _minari()
    try:
        if (Path(name) / "data").is_dir():
            return minari.MinariDataset(Path(name) / "data")
        return minari.load_dataset(os.fspath(name))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error}; expected a folder with data/ in it, or an id of `minari list local` "
            "(`minari download` gets one)"
        ) from error


def _minari() -> Any:
    try:
        return import_module("minari")
    except ImportError as error:
        raise ImportError("Minari is not here: pip install 'wm-gym[minari]'") from error


@dataclass(frozen=True, eq=False)
class MinariSource:
    """A dataset of theirs, and how it is to be read."""

    dataset: Any
    """A `minari.MinariDataset`."""

    fps: int
    """Control steps a second, which Minari does not know."""

    picture: str | None = None
    """Where in a dictionary of observations the pictures are, as `outer/inner`; without it the only
    ones there are."""

    given: Bounds | None = None
    """What ±1 is to stand for; without it the bounds of the action space, or of the data."""

    size: tuple[int, int] | None = None
    """Of the pictures, height and width; without it as `suitable_picture` has it."""

    system: str | None = None
    """A name for what it is of; without it the environment's id, or the dataset's."""

    def __len__(self) -> int:
        """Episodes."""
        return int(self.dataset.total_episodes)

    @cached_property
    def camera(self) -> tuple[str, ...]:
        """The way to the pictures."""
        found = ["/".join(way) for way in _pictures(self.dataset.observation_space)]
        wanted = found[0] if self.picture is None and len(found) == 1 else self.picture
        if wanted is None or wanted not in found:
            raise ValueError(
                f"choose a picture key among {found}, came {self.picture!r}; "
                f"observations are {self.dataset.observation_space}"
            )
        return tuple(filter(None, wanted.split("/")))

    @cached_property
    def bounds(self) -> Bounds | None:
        """None where actions are within [−1, 1] as they are."""
        space = self.dataset.action_space
        if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
            raise ValueError(f"actions are {space}, expected a Box of floats")
        if self.given is not None:
            return self.given
        if not space.is_bounded():
            return bounds_of(np.concatenate([_flat(e.actions) for e in self.dataset]))
        if (space.low == -1).all() and (space.high == 1).all():
            return None
        low, high = (tuple(np.ravel(edge).tolist()) for edge in (space.low, space.high))
        return Bounds(low=low, high=high)

    @property
    def beyond(self) -> float:
        """Share of the actions that lie beyond the bounds, and are clipped."""
        if self.given is None:
            return 0.0
        return share_beyond(self.given, np.concatenate([_flat(e.actions) for e in self.dataset]))

    def spec(self) -> DatasetSpec:
        first = self.episode(0)
        facts = {k: Fact(dtype=v.dtype.name, shape=v.shape[1:]) for k, v in first.facts.items()}
        env_spec = self.dataset.env_spec
        name = self.system or (env_spec.id if env_spec else str(self.dataset.id))
        return DatasetSpec(
            env_id=name,
            fps=self.fps,
            picture=first.frames.shape[1:],
            action_size=first.action.shape[1],
            facts=facts,
            robot_type=name,
            recipe={"source": f"Minari, {self.dataset.id}", "camera": "/".join(self.camera)},
            bounds=self.bounds,
        )

    def episode(self, i: int) -> Episode:
        data = self.dataset[i]
        frames = data.observations
        for key in self.camera:
            frames = frames[key]
        frames = np.asarray(frames)
        terminated = bool(np.asarray(data.terminations)[-1])
        reward = np.asarray(data.rewards, np.float32)
        return Episode(
            frames=self._shown(frames),
            action=told(self.bounds, _flat(data.actions)),
            reward=reward,
            terminated=terminated,
            truncated=bool(np.asarray(data.truncations)[-1]) or not terminated,
            facts=_facts(data.infos or {}, len(frames)),
            behaviour="logged",
            split="train",
            seed=self._seed(int(data.id)),
            task=self.system or str(self.dataset.id),
        )

    def _seed(self, number: int) -> int:
        (metadata,) = self.dataset.storage.get_episode_metadata([number])
        seed = metadata.get("seed")
        return int(seed) if isinstance(seed, (int, np.integer)) and 0 <= seed < 2**63 else number

    def _shown(self, frames: UInt8[np.ndarray, "t h w c"]) -> UInt8[np.ndarray, "t h2 w2 c"]:
        height, width = frames.shape[1:3]
        wanted = self.size or suitable_picture(height, width)
        if wanted == (height, width):
            return frames
        return np.stack([resized(frame, wanted) for frame in frames])


def _pictures(space: spaces.Space[Any], *way: str) -> Iterator[tuple[str, ...]]:
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _pictures(inner, *way, key)
    elif is_picture(space):
        yield way


def _flat(actions: Any) -> np.ndarray:
    values = np.asarray(actions)
    return values.reshape(len(values), -1).astype(np.float64)


def _facts(infos: Mapping[str, Any], frames: int) -> dict[str, np.ndarray]:
    """What collecting would have logged, where it was recorded for every frame."""
    values = {name: np.asarray(infos[name]) for name in FACTS if name in infos}
    numbers = {k: v for k, v in values.items() if v.dtype.kind in "biuf" and len(v) == frames}
    return {k: v[:, 0] if v.shape == (frames, 1) else v for k, v in numbers.items()}


def export_minari(
    dataset: Dataset, dataset_id: str, *, progress: Callable[[int], None] | None = None
) -> Any:
    """The same pictures, losslessly, and actions as the environment takes them; facts are `infos`.

    It goes into Minari's local store, an episode at a time; progress(episodes) is called after
    each.
    """
    minari = _minari()
    spec, made = dataset.spec, None
    one = (1.0,) * spec.action_size
    bounds = spec.bounds or Bounds(low=tuple(-x for x in one), high=one)
    for i in range(len(dataset)):
        buffer = [_buffer(minari, dataset, i)]
        if made is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of authors, whom it cannot know
                made = minari.create_dataset_from_buffers(
                    dataset_id, buffer,
                    observation_space=spaces.Box(0, 255, spec.picture, np.uint8),
                    action_space=spaces.Box(np.array(bounds.low), np.array(bounds.high)),
                    data_format="arrow", jpeg_encoding=False,
                    algorithm_name=", ".join(sorted({str(b) for b in dataset.index["behaviour"]})),
                    description=f"{spec.env_id} at {spec.fps} steps a second, logged by wm_gym",
                )  # fmt: skip
        else:
            made.update_dataset_from_buffer(buffer)
        if progress is not None:
            progress(1)
    return made


def _buffer(minari: Any, dataset: Dataset, i: int) -> Any:
    episode, bounds = dataset.episode(i), dataset.spec.bounds
    action = episode.action if bounds is None else bounds.from_unit(episode.action)
    ends = np.zeros((2, len(episode.reward)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    return minari.data_collector.EpisodeBuffer(
        id=i,
        seed=episode.seed,
        observations=episode.frames,
        actions=action.astype(np.float32),
        rewards=episode.reward.tolist(),
        terminations=ends[0].tolist(),
        truncations=ends[1].tolist(),
        infos={  # Minari's arrow format cannot read numbers of no axis back
            name: values[:, None] if values.ndim == 1 else values
            for name, values in episode.facts.items()
        },
    )
