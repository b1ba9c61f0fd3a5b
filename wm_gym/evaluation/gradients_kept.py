"""What was measured of a real system so far, in a file: who is interrupted goes on there."""

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from importlib import import_module, metadata
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from wm_gym.evaluation.gradients import Gradients
from wm_gym.evaluation.gradients_real import Found, Trial
from wm_gym.storage.files import atomic_file
from wm_gym.systems import System

EVERY = 20.0
"""Seconds after which it is written again."""


class Kept:
    """Results of lists of trials, by name, of one system and its δs."""

    def __init__(self, file: Path, system: System, env_id: str, deltas: Sequence[float]) -> None:
        self.file = file
        self._of = [_simulated_by(system, env_id), list(deltas)]
        self._found: dict[str, list[Found]] = {}
        self._keys: dict[str, str] = {}
        self._saved = time.monotonic()

    def known(self, name: str, tried: Sequence[Trial]) -> list[Found]:
        """The first of these trials, as far as an earlier run came; from now on they are added to,
        and whatever else stood under this name is forgotten."""
        self._keys[name] = key = _key(self._of, tried)
        self._found[name] = self._read(name, key)
        return list(self._found[name])

    def added(self, name: str, found: Iterator[Found]) -> Iterator[Found]:
        """The same, noted. Where there are none, the file stays as it is."""
        many = len(self._found[name])
        try:
            for each in found:
                self._found[name].append(each)
                if time.monotonic() - self._saved > EVERY:
                    self._save()
                yield each
        finally:
            if len(self._found[name]) > many:
                self._save()

    def _read(self, name: str, key: str) -> list[Found]:
        try:
            with self.file.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if str(stored[f"{name}.key"]) != key:
                    return []
                pose, total, touched = (stored[f"{name}.{each}"] for each in _ARRAYS)
        except (OSError, KeyError, ValueError, BadZipFile):
            return []  # it costs time alone
        return [
            ([Gradients(pose=p[None], total=t[None]) for p, t in zip(*both, strict=True)], bool(c))
            for *both, c in zip(pose, total, touched, strict=True)
        ]

    def _save(self) -> None:
        arrays: dict[str, np.ndarray] = {}
        for name, found in self._found.items():
            if found:
                pose, total = (
                    np.stack([[getattr(each, what)[0] for each in slopes] for slopes, _ in found])
                    for what in ("pose", "total")
                )
                told = (pose, total, np.array([touched for _, touched in found]))
                arrays |= {f"{name}.{a}": each for a, each in zip(_ARRAYS, told, strict=True)}
                arrays[f"{name}.key"] = np.array(self._keys[name])
        if arrays:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.file) as file:
                np.savez(file, allow_pickle=False, **arrays)
        self._saved = time.monotonic()


_ARRAYS = ("pose", "total", "touched")


def _key(of: object, tried: Sequence[Trial]) -> str:
    told = hashlib.sha256(json.dumps(of).encode())
    for trial in tried:
        told.update(trial.state.tobytes() + trial.action.tobytes() + repr(trial.seed).encode())
    return told.hexdigest()


def _simulated_by(system: System, env_id: str) -> list[str]:
    """What decides what a simulator does: its own code, and that of the packages it names."""
    entry = system.simulators.get(env_id) or next(iter(system.simulators.values()))
    module = import_module(entry.partition(":")[0])
    assert module.__file__ is not None
    own = Path(module.__file__)
    files = sorted(own.parent.glob("*.py")) if module.__package__ else [own]
    code = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return [entry, code, *(f"{name} {metadata.version(name)}" for name in system.packages)]
