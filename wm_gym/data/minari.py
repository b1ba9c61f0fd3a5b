"""Minari datasets with pictures, as episodes of ours."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float, Float32

from wm_gym.data.episode import Episode, TooShortError
from wm_gym.data.facts import FACTS
from wm_gym.data.foreign import episode_named, facts_of, first_whole
from wm_gym.data.pixels import MOST_PIXELS, bounded_pictures, fitted
from wm_gym.data.proprio import is_picture, is_vector, numbered
from wm_gym.data.rows import damage_named
from wm_gym.data.scaling import bounds_of, share_beyond, told
from wm_gym.data.spec import DatasetSpec
from wm_gym.storage.files import plain_file
from wm_gym.systems import Bounds
from wm_gym.types import PROPRIO

UNIT_ACTION = "unit_action"
"""Among `infos`: where `minari_export` keeps actions as we have them, because what is scaled and
scaled back is not always the same to the last bit."""


def load_minari(name: str | Path) -> Any:
    """A `minari.MinariDataset`: of a dataset's id in the local store, or of its folder."""
    minari, folder = minari_package(), Path(name)
    if not (folder / "data").is_dir():
        folder = Path(import_module("minari.storage").get_dataset_path(os.fspath(name)))
    if not (folder / "data").is_dir():
        raise FileNotFoundError(
            f"{name} is not in {folder.parent}; expected a folder with data/ in it, or an id of "
            "`minari list local` (`minari download` gets one)"
        )
    _check_files(folder)
    return minari.MinariDataset(folder / "data")


def _check_files(folder: Path) -> None:
    """Minari opens all that it finds; and where no spaces are told, it makes the environment that
    the file names, which can be any function of any module."""
    for path in (folder / "data").rglob("*"):
        if path.is_symlink() or not path.is_dir():
            plain_file(folder, path.relative_to(folder))
    path = plain_file(folder, "data/metadata.json")
    with damage_named(path):
        told = json.loads(path.read_bytes())
        untold = {"observation_space", "action_space"} - set(told)
    if untold:
        raise ValueError(
            f"{path} has no {' and no '.join(sorted(untold))}, which would have to be asked of an "
            "environment that it names: make the dataset anew with a newer Minari, which tells them"
        )


def minari_package() -> Any:
    try:
        return import_module("minari")
    except ImportError as error:
        raise ImportError("Minari is not here: pip install 'wm-gym[minari]'") from error


@dataclass(frozen=True, eq=False)
class MinariSource:
    """A dataset of theirs, and how it is to be read."""

    dataset: Any
    """A `minari.MinariDataset`."""

    fps: int | float
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

    proprio: str | None = None
    """Where in a dictionary of observations proprioception is, as `outer/inner`; without it what is
    called `agent_pos` there, if that is a vector."""

    def __len__(self) -> int:
        """Episodes."""
        return int(self.dataset.total_episodes)

    @property
    def name(self) -> str:
        return str(self.dataset.id)

    @cached_property
    def camera(self) -> tuple[str, ...]:
        """The way to the pictures."""
        found = ["/".join(way) for way in _ways(self.dataset.observation_space, is_picture)]
        wanted = found[0] if self.picture is None and len(found) == 1 else self.picture
        if wanted is None or wanted not in found:
            raise ValueError(
                f"choose a picture key among {found}, came {self.picture!r}; "
                f"observations are {self.dataset.observation_space}"
            )
        return tuple(filter(None, wanted.split("/")))

    @cached_property
    def felt(self) -> tuple[str, ...] | None:
        """The way to proprioception."""
        ways = ["/".join(way) for way in _ways(self.dataset.observation_space, is_vector)]
        if self.proprio is None:
            named = [way for way in ways if way.rpartition("/")[2] == PROPRIO]
            return tuple(named[0].split("/")) if len(named) == 1 else None
        if self.proprio not in ways:
            raise ValueError(
                f"choose a proprioception key among {ways}, came {self.proprio!r}; "
                f"observations are {self.dataset.observation_space}"
            )
        return tuple(filter(None, self.proprio.split("/")))

    @cached_property
    def bounds(self) -> Bounds | None:
        """None where actions are within [−1, 1] as they are."""
        space = self.dataset.action_space
        if not isinstance(space, spaces.Box) or space.dtype.kind != "f":
            raise ValueError(f"actions are {space}, expected a Box of floats")
        if self.given is not None:
            return self.given
        if not space.is_bounded():
            return bounds_of(self._every_action)
        if (space.low == -1).all() and (space.high == 1).all():
            return None
        low, high = (tuple(np.ravel(edge).tolist()) for edge in (space.low, space.high))
        return Bounds(low=low, high=high)

    @cached_property
    def beyond(self) -> float:
        """Share of the actions that lie beyond the bounds, and are clipped."""
        return share_beyond(self.bounds, self._every_action)

    @property
    def last_rewards(self) -> int:
        """None of theirs is left out."""
        return 0

    @cached_property
    def _every_action(self) -> Float[np.ndarray, "n a"]:
        """Minari reads no actions without pictures, so only episodes nobody has read yet are."""
        for number in range(len(self)):
            if number not in self._actions:
                with suppress(TooShortError), episode_named(number, self.name):
                    self._read(number)
        nothing = np.empty((0, int(np.prod(self.dataset.action_space.shape))))
        return np.concatenate([nothing, *self._actions.values()])

    @cached_property
    def _actions(self) -> dict[int, np.ndarray]:
        return {}

    def _metadata(self, i: int) -> Mapping[str, Any]:
        number = int(self.dataset.episode_indices[i])
        (metadata,) = self.dataset.storage.get_episode_metadata([number])
        return dict(metadata)

    def _read(self, i: int) -> Any:
        """As Minari has it; in some of its formats it cannot read what has no steps."""
        if self._metadata(i).get("total_steps") == 0:
            raise TooShortError("it has 0 steps, expected at least 1")
        self._check_stored(i)
        with bounded_pictures(max(1, *_pixels(self.dataset.observation_space))):
            data = self.dataset[i]
        action, size = _flat(data.actions), int(np.prod(self.dataset.action_space.shape))
        if action.shape[1] != size:
            raise ValueError(
                f"actions have {action.shape[1]} numbers each, expected {size} as the action space "
                "says; get the dataset anew"
            )
        self._actions[i] = action
        return data

    def _check_stored(self, i: int) -> None:
        """HDF5 holds as many zeros as it says it has, in no room: so what is read is of the
        shape that was promised before it is; but for JPEGs."""
        storage = self.dataset.storage
        if storage.FORMAT != "hdf5":
            return
        h5py = import_module("h5py")  # which Minari has for its own
        episode = f"episode_{int(self.dataset.episode_indices[i])}"
        with h5py.File(Path(storage.data_path) / "main_data.hdf5", "r") as file:
            steps = self._metadata(i).get("total_steps", len(file[f"{episode}/rewards"]))
            for what, way in {"pictures": self.camera, "proprioception": self.felt}.items():
                if way is None:
                    continue
                shape = file["/".join((episode, "observations", *way))].shape
                promised = (int(steps) + 1, *self._shape_at(way))
                if len(shape) > 1 and shape != promised:
                    raise ValueError(
                        f"{file.filename} has {what} of shape {shape}, expected {promised} "
                        "as it says elsewhere; get the data anew"
                    )

    def _shape_at(self, way: tuple[str, ...]) -> tuple[int, ...]:
        space = self.dataset.observation_space
        for key in way:
            space = space[key]
        return tuple(space.shape)

    def spec(self) -> DatasetSpec:
        camera, bounds = "/".join(self.camera), self.bounds
        first = first_whole(self.name, len(self), self.episode)
        env_spec = self.dataset.env_spec
        name = self.system or (env_spec.id if env_spec else str(self.dataset.id))
        return DatasetSpec(
            env_id=name,
            fps=self.fps,
            picture=first.frames.shape[1:],
            action_size=first.action.shape[1],
            facts=facts_of(first),
            robot_type=name,
            recipe={"source": f"Minari, {self.dataset.id}", "camera": camera},
            bounds=bounds,
            proprio_names=(
                () if first.proprio is None else numbered(PROPRIO, first.proprio.shape[1])
            ),
        )

    def episode(self, i: int) -> Episode:
        """TooShortError where it holds no transition."""
        data = self._read(i)
        frames = _at(data.observations, self.camera)
        felt = None if self.felt is None else _at(data.observations, self.felt)
        terminated = bool(np.asarray(data.terminations)[-1])
        infos = data.infos or {}
        return Episode(
            frames=np.stack([fitted(frame, self.size) for frame in frames]),
            action=_unit(told(self.bounds, self._actions[i]), infos),
            reward=np.asarray(data.rewards, np.float32),
            terminated=terminated,
            truncated=bool(np.asarray(data.truncations)[-1]) or not terminated,
            facts=_facts(infos, len(frames)),
            behaviour="logged",
            split="train",
            seed=self._seed(i, int(data.id)),
            task=self.system or str(self.dataset.id),
            proprio=None if felt is None else felt.astype(np.float32),
        )

    def _seed(self, i: int, number: int) -> int:
        seed = self._metadata(i).get("seed")
        return int(seed) if isinstance(seed, (int, np.integer)) and 0 <= seed < 2**63 else number


def _ways(
    space: spaces.Space[Any], wanted: Callable[[spaces.Space[Any]], bool], *way: str
) -> Iterator[tuple[str, ...]]:
    """To all spaces that are wanted."""
    if isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            yield from _ways(inner, wanted, *way, key)
    elif wanted(space):
        yield way


def _at(observations: Any, way: tuple[str, ...]) -> np.ndarray:
    for key in way:
        observations = observations[key]
    return np.asarray(observations)


def _pixels(space: spaces.Space[Any]) -> Iterator[int]:
    """Of the pictures that observations may hold, also of those that are not asked for."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        for inner in space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces:
            yield from _pixels(inner)
    elif isinstance(space, spaces.Box) and len(space.shape) in (2, 3):
        if (pixels := space.shape[0] * space.shape[1]) > MOST_PIXELS:
            raise ValueError(f"observations are {space}, expected at most {MOST_PIXELS:,} pixels")
        yield pixels


def _flat(actions: Any) -> np.ndarray:
    values = np.asarray(actions)
    return values.reshape(len(values), -1).astype(np.float64)


def _unit(action: Float32[np.ndarray, "t a"], infos: Mapping[str, Any]) -> np.ndarray:
    """The same, to the last bit where the export was ours and bounds are still the same."""
    ours = np.asarray(infos.get(UNIT_ACTION, ()))[: len(action)]
    same = ours.shape == action.shape and ours.dtype == np.float32
    return ours if same and np.allclose(ours, action, rtol=0, atol=1e-6) else action


def _facts(infos: Mapping[str, Any], frames: int) -> dict[str, np.ndarray]:
    """What collecting would have logged, where it was recorded for every frame."""
    values = {name: np.asarray(infos[name]) for name in FACTS if name in infos}
    numbers = {k: v for k, v in values.items() if v.dtype.kind in "biuf" and len(v) == frames}
    return {k: v[:, 0] if v.shape == (frames, 1) else v for k, v in numbers.items()}
