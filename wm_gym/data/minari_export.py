"""Datasets of ours, as Minari datasets."""

import json
import re
import secrets
import shutil
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Float

from wm_gym.data.dataset import Dataset
from wm_gym.data.minari import UNIT_ACTION, load_minari, minari_package
from wm_gym.data.spec import DatasetSpec
from wm_gym.storage.files import write_atomically
from wm_gym.types import PIXELS, PROPRIO


def export_minari(
    dataset: Dataset, dataset_id: str, *, progress: Callable[[int], None] | None = None
) -> Any:
    """The same pictures, losslessly, and actions as the environment takes them; facts are `infos`.
    Proprioception makes observations dictionaries: {"pixels", "agent_pos"}.

    It goes into Minari's local store, an episode at a time; progress(episodes) is called after
    each. It has another id until it is whole, and a failure leaves nothing behind.
    """
    minari, place = minari_package(), _free_place(dataset_id)
    namespace, slash, name = dataset_id.rpartition("/")
    half_written = f"{namespace}{slash}half-written-{secrets.token_hex(4)}-{name}"
    try:
        _write(minari, dataset, half_written, progress)
        metadata = _place(half_written) / "data/metadata.json"
        told = json.loads(metadata.read_bytes()) | {"dataset_id": dataset_id}
        write_atomically(metadata, json.dumps(told).encode())
        _place(half_written).rename(place)
    finally:
        shutil.rmtree(_place(half_written), ignore_errors=True)
    return load_minari(dataset_id)


def _free_place(dataset_id: str) -> Path:
    if not re.fullmatch(r"([-\w]+/)*[-\w]+-v\d+", dataset_id):
        raise ValueError(f"{dataset_id!r} is no Minari id, expected one as mine/pendulum/random-v0")
    place = _place(dataset_id)
    if place.exists():
        raise ValueError(
            f"{dataset_id} exists already, in {place}; `minari delete {dataset_id}` makes room, or "
            "choose another id"
        )
    return place


def _place(dataset_id: str) -> Path:
    """In Minari's local store."""
    return Path(import_module("minari.storage").get_dataset_path(dataset_id))


def _write(
    minari: Any, dataset: Dataset, dataset_id: str, progress: Callable[[int], None] | None
) -> None:
    spec, made = dataset.spec, None
    for i in range(len(dataset)):
        buffer = [_buffer(minari, dataset, i)]
        if made is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # of authors, whom it cannot know
                made = minari.create_dataset_from_buffers(
                    dataset_id, buffer,
                    observation_space=_observed(spec),
                    action_space=spaces.Box(*_edges(spec), dtype=np.float64),
                    data_format="arrow", jpeg_encoding=False,
                    algorithm_name=", ".join(sorted({str(b) for b in dataset.index["behaviour"]})),
                    description=f"{spec.env_id} at {spec.fps} steps a second, logged by wm_gym",
                )  # fmt: skip
        else:
            made.update_dataset_from_buffer(buffer)
        if progress is not None:
            progress(1)


def _observed(spec: DatasetSpec) -> spaces.Space[Any]:
    """Pictures, or dictionaries of LeRobot's names where there is proprioception too."""
    picture = spaces.Box(0, 255, spec.picture, np.uint8)
    if not spec.proprio_names:
        return picture
    felt = spaces.Box(-np.inf, np.inf, (len(spec.proprio_names),), np.float32)
    return spaces.Dict({PIXELS: picture, PROPRIO: felt})


def _edges(spec: DatasetSpec) -> tuple[Float[np.ndarray, "a"], Float[np.ndarray, "a"]]:
    """The least and the greatest that the environment takes."""
    if spec.bounds is None:
        return -np.ones(spec.action_size), np.ones(spec.action_size)
    return np.array(spec.bounds.low), np.array(spec.bounds.high)


def _buffer(minari: Any, dataset: Dataset, i: int) -> Any:
    episode, bounds = dataset.episode(i), dataset.spec.bounds
    unit = episode.action.astype(np.float64)
    action = unit if bounds is None else bounds.from_unit(unit)
    ends = np.zeros((2, len(episode.reward)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    infos = {UNIT_ACTION: np.append(episode.action, np.zeros_like(episode.action[:1]), axis=0)}
    for name, values in episode.facts.items():  # its arrow format reads no numbers of no axis
        infos[name] = values[:, None] if values.ndim == 1 else values
    return minari.data_collector.EpisodeBuffer(
        id=i,
        seed=episode.seed,
        observations=(
            episode.frames
            if episode.proprio is None
            else {PIXELS: episode.frames, PROPRIO: episode.proprio}
        ),
        actions=np.clip(action, *_edges(dataset.spec)),
        rewards=episode.reward.tolist(),
        terminations=ends[0].tolist(),
        truncations=ends[1].tolist(),
        infos=infos,
    )
