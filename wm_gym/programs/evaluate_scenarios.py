"""The part of `wm-gym evaluate` that asks a dream what it remembers: scenarios of its system."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wm_gym.data import Dataset
from wm_gym.data.layout import Meta, content_hash
from wm_gym.evaluation.choices import choices, dreamt_returns
from wm_gym.evaluation.fidelity import Fidelity, fidelity
from wm_gym.evaluation.learned_probe import (
    LearnedProbe,
    LearnedProbeConfig,
    ProbeTraining,
    load_probe,
)
from wm_gym.evaluation.melting import Melting, bank_of, melting
from wm_gym.evaluation.noisy_floor import (
    check_cases,
    floor_of,
    floor_plan,
    sampled,
    shuffle_ratios,
    shuffled,
)
from wm_gym.evaluation.probes import Lesson, Probe, lesson_of, probe_of
from wm_gym.evaluation.returns import Ended, ended_takes, returns
from wm_gym.evaluation.rollouts import Dreamer, Rollouts, dream_rollouts, shown_of
from wm_gym.evaluation.takes import Takes
from wm_gym.models.world_model import WorldModel
from wm_gym.programs.progress import Bar
from wm_gym.systems import System
from wm_gym.systems.scenarios import Scenario, scenarios_of

CALLS = (1, 2, 4)
"""Denoiser calls a frame that samples are compared with."""

BANK = 2000
"""Real frames that say what pictures of this world look like."""

T = TypeVar("T")


def found_probe(
    system: System, data: Path, cache: Path, config: LearnedProbeConfig
) -> Probe | None:
    """A system's own; or one that learned, which is kept, and learns anew from other data or for
    another number of updates."""
    lesson = lesson_of(system)
    if lesson is None:
        return probe_of(system)
    file = cache / f"{system.name}.safetensors"
    folder = data / lesson.LEARNED_FROM
    known = load_probe(file, lesson, system.frame_shape)
    there = (folder / "meta").exists()
    if known is not None and (not there or _as_asked(known, folder, config)):
        print(f"probe:    {file}, {_read_by(known)}", end="\n\n")
        return known
    if not there:
        print(
            f"{folder} is not here, so nothing is read off frames: `wm-gym collect "
            f"{lesson.LEARNED_FROM} --out {folder}` logs what a probe learns from",
            end="\n\n",
        )
        return None
    probe = _learned(lesson, Dataset.open(folder), config)
    probe.save(file)
    print(f"probe:    {file}, {_read_by(probe)}", end="\n\n")
    return probe


def _as_asked(probe: LearnedProbe, folder: Path, config: LearnedProbeConfig) -> bool:
    updates = probe.made.get("updates", config.updates)  # which older ones do not say
    return bool(probe.made.get("hash") == _hash_of(folder) and updates == config.updates)


def _hash_of(folder: Path) -> str:
    """Without reading the frames."""
    return content_hash([entry.digest for entry in Meta.read(folder).entries])


def _learned(lesson: Lesson, dataset: Dataset, config: LearnedProbeConfig) -> LearnedProbe:
    training = ProbeTraining(lesson, dataset, config)
    with Bar(total=len(training), unit="update", desc="a probe learns to read") as bar:
        for loss in training:
            bar.update()
            bar.set_postfix({"loss": loss}, refresh=False)
    return training.learned()


def _read_by(probe: LearnedProbe) -> str:
    parts = [
        f"{name} {value:.3g} {probe.UNITS[name]}"
        for name, value in probe.made["median"].items()
        if value is not None
    ]
    return f"off by {', '.join(parts)} (medians) on {probe.made['unseen_frames']:,} unseen frames"


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Scenarios that were logged, and who dreams of them."""

    dreamer: Dreamer
    probe: Probe | None
    staged: Mapping[str, tuple[Scenario, Dataset]]
    """By name."""

    seed: int

    @classmethod
    def found(
        cls, system: System, data: Path, dreamer: Dreamer, probe: Probe | None, *, seed: int
    ) -> "Scenes":
        """Those that are not logged are left out, and it is said how to log them."""
        staged = {}
        for name, scenario in scenarios_of(system).items():
            folder = data / name
            if not (folder / "meta").exists():
                print(f"{folder} is not here: `wm-gym collect {name} --out {folder}` logs it")
                continue
            dataset = Dataset.open(folder)
            check_of(dataset, dreamer.model)
            if scenario.form == "floor":
                check_cases(Takes.of(dataset, dreamer.model.spec.prefill))
            staged[name] = scenario, dataset
        return cls(dreamer=dreamer, probe=probe, staged=staged, seed=seed)

    def _takes(self, form: str) -> Iterator[tuple[str, Scenario, Takes]]:
        for name, (scenario, dataset) in self.staged.items():
            if scenario.form == form:
                yield name, scenario, Takes.of(dataset, self.dreamer.model.spec.prefill)

    def floors(self) -> dict[str, Fidelity]:
        """As of any behaviour, beside the real system under other noise."""
        found = {}
        for name, _, takes in self._takes("floor"):
            plan = floor_plan(takes)
            dreams = dream_rollouts(self.dreamer, self.probe, takes.dataset, plan)
            rollouts = _joined(_barred(dreams, len(plan), f"dreaming of {name}"))
            floor = floor_of(takes, self.probe)
            found[name] = fidelity([rollouts], [floor], self.probe, seed=self.seed)
        return found

    def memory(self, behaviours: Mapping[str, Dataset]) -> dict[str, Any]:
        """All else, as JSON holds it; nothing where a system has no scenarios."""
        if not self.staged:
            return {}
        found: dict[str, Any] = {"returns": {}, "choices": {}, "shuffled": {}, "samples": {}}
        probe = self.probe
        if isinstance(probe, LearnedProbe):
            found["probe"] = dict(probe.made)
        if probe is not None:
            found["units"], found["wrong"] = dict(probe.UNITS), list(probe.WRONG)
            for name, scenario, takes in self._takes("away"):
                found["returns"][name] = self._returns(probe, scenario, takes, name)
        for name, _, takes in self._takes("choices"):
            found["choices"][name] = self._choices(takes, name)
        for name, _, takes in self._takes("floor"):
            found["shuffled"][name] = self._shuffled(takes, name)
            found["samples"][name] = self._samples(takes, name)
        found["melting"] = {name: self._melting(data, name) for name, data in behaviours.items()}
        return found

    def _returns(self, probe: Probe, scenario: Scenario, takes: Takes, name: str) -> dict[str, Any]:
        parts = []
        with Bar(total=len(takes), unit="take", desc=f"looking away: {name}") as bar:
            for part in ended_takes(self.dreamer, probe, takes):
                parts.append(part)
                bar.update(len(part.which))
        found = returns(Ended.joined(parts), takes, probe, scenario.groups, seed=self.seed)
        return {group: asdict(each) for group, each in found.items()}

    def _choices(self, takes: Takes, name: str) -> dict[str, Any]:
        dreamt = np.zeros(len(takes))
        with Bar(total=len(takes), unit="take", desc=f"choosing: {name}") as bar:
            for which, total in dreamt_returns(self.dreamer, takes):
                dreamt[which] = total
                bar.update(len(which))
        return asdict(choices(dreamt, takes, seed=self.seed))

    def _shuffled(self, takes: Takes, name: str) -> dict[str, Any]:
        run = shuffled(self.dreamer, self.probe, takes)
        rollouts = _joined(_barred(run, len(takes) // 2, f"wrong actions: {name}"))
        found = shuffle_ratios(rollouts, seed=self.seed)
        return {figure: asdict(each)["by_step"] for figure, each in found.items()}

    def _samples(self, takes: Takes, name: str) -> dict[str, Any]:
        """By denoiser calls, and of the real system itself."""
        tables = {"real": fidelity_table(floor_of(takes, self.probe), self.seed)}
        for calls in CALLS:
            run = sampled(replace(self.dreamer, denoising_steps=calls), self.probe, takes)
            told = f"{calls} denoiser call{'s' * (calls > 1)}: {name}"
            rollouts = _joined(_barred(run, len(takes) // 2, told))
            tables[str(calls)] = fidelity_table(rollouts, self.seed)
        return tables

    def _melting(self, dataset: Dataset, name: str) -> dict[str, Any] | None:
        if len(dataset) < 4:
            return None
        bank, others = bank_of(dataset, most=BANK, seed=self.seed)
        context = shown_of(self.dreamer.model, dataset)
        many = min(100, len(dataset))
        run = melting(
            self.dreamer, dataset, bank, others, context=context, rollouts=many, seed=self.seed
        )
        with Bar(total=many, unit="rollout", desc=f"melting: {name}") as bar:
            for told in run:
                if isinstance(told, Melting):
                    return asdict(told)
                bar.update(told)
        return None


def fidelity_table(rollouts: Rollouts, seed: int) -> dict[str, Any]:
    figures = fidelity([rollouts], [], None, seed=seed).figures
    return {name: {s: asdict(each) for s, each in row.items()} for name, row in figures.items()}


def check_of(dataset: Dataset, model: WorldModel) -> None:
    """That it is of the model's system, in its pictures."""
    if (of := dataset.spec.robot_type) != model.card.system:
        raise ValueError(
            f"{dataset.folder} is of the system {of!r}, but the world model dreams of "
            f"{model.card.system!r}; give --data of the same"
        )
    if (picture := dataset.spec.picture) != model.spec.frame_shape:
        raise ValueError(
            f"{dataset.folder} has pictures of shape {picture}, but the world model dreams of "
            f"{model.spec.frame_shape}; give --data logged as what it learned from"
        )


def _barred(run: Iterator[Rollouts], total: int, desc: str) -> Iterator[Rollouts]:
    with Bar(total=total, unit="rollout", desc=desc) as bar:
        for part in run:
            yield part
            bar.update(len(part.first_row))


def _joined(parts: Iterator[Rollouts]) -> Rollouts:
    return Rollouts.joined(list(parts))
