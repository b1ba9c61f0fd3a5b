"""`wm-gym gradients`: whether the gradients that a dream lends are right, on unseen play."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from wm_gym.data import Dataset
from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.evaluation.gradients import STEPS, Cases, Gradients, choose_cases, parts
from wm_gym.evaluation.gradients_card import (
    AIM_DELTA,
    DREAM,
    READ,
    REAL,
    Aim,
    Comparison,
    Floor,
    Measured,
    aims,
    compare,
    floors,
)
from wm_gym.evaluation.gradients_drawing import draw_cosines, draw_one_step
from wm_gym.evaluation.gradients_dream import (
    dream_gradients,
    hook_gradients,
)
from wm_gym.evaluation.gradients_report import (
    aims_text,
    comparison_text,
    floors_text,
    local_text,
    refreshed_text,
)
from wm_gym.evaluation.learned_probe import LearnedProbeConfig
from wm_gym.evaluation.linear_probe import HISTORY, LinearProbe, fit_linear_probe
from wm_gym.evaluation.local_report import Line, local_figures, local_report
from wm_gym.evaluation.probes import Posed, Probe, posed_of, quantities
from wm_gym.evaluation.refreshing import (
    Refreshed,
    logged_transitions,
    practice,
    practised_transitions,
    refresh,
    refreshed,
)
from wm_gym.models.world_model import WorldModel
from wm_gym.numbers import check_least
from wm_gym.programs.evaluate import OTHER_DATA, facts_of, open_datasets
from wm_gym.programs.evaluate_scenarios import found_probe
from wm_gym.programs.gradients_real import Asking
from wm_gym.programs.machine import machine
from wm_gym.programs.options import check_denoising_steps
from wm_gym.programs.progress import Bar, each
from wm_gym.storage.files import atomic_file, write_atomically
from wm_gym.systems import System

DATA = ("play=data/push-t-test", "human=data/human")
"""What the packaged world model is measured on; of these, missing ones are left out."""

AT_ONCE = 50
"""States that are dreamt of together."""


@dataclass(frozen=True, kw_only=True)
class GradientCard:
    world_model: Annotated[str, tyro.conf.Positional]
    """The world model: a folder, a packaged name such as push-t, or a Hub id."""

    data: tuple[str, ...] = DATA
    """Datasets that it never learned from, each as name=folder; gradients are of the first."""

    logs: Path = Path("data")
    """Folder with the datasets that readings of positions learn from, each under the name that
    `wm-gym collect` has for it."""

    fitted: Path | None = None
    """Dataset that a linear reading of positions from features is fitted to; without it the
    system's play, in that folder."""

    probes: Path = Path("out/probes")
    """Folder where probes that learned to read frames are kept."""

    probe_updates: int = 2500
    """Optimiser steps of a probe, where a system's needs to learn."""

    out: Path = Path("out/gradients")
    """Folder for figures, tables and pictures."""

    states: int = 0
    """How many states to measure gradients in, about half of them in contact; 0: as many as the
    system asks for."""

    windows: int = 1000
    """How many stretches of 16 frames to fit to, and of each dataset to measure errors on."""

    deltas: tuple[float, ...] = ()
    """How far actions in [−1, 1] are moved for finite differences, one or more distances; without
    any those that the system asks for."""

    noises: int = 0
    """Under how many seeds of the real system's own noise slopes are averaged, for each of two
    estimates; 0: as many as the system asks for."""

    workers: int | None = None
    """Processes that share the real system's states; without it one for each core, and no more
    than one for eight states."""

    refreshes: tuple[int, ...] = (0,)
    """Measure gradients after the local model has learned further this many times, each."""

    denoising_steps: int | None = None
    """Calls of the diffusion model for each frame; without it the model's own number."""

    device: str = "auto"
    """Device such as 'cpu' or 'cuda:1'; 'auto' is the GPU if there is one."""

    seed: int = 0
    """Seed of what is chosen and drawn at random."""

    def __post_init__(self) -> None:
        for name in ("states", "windows"):
            least = getattr(self, name)
            if least < 2 and (name, least) != ("states", 0):
                raise ValueError(f"{name} is {least}, expected at least 2")
        if not all(0 < delta <= 0.5 for delta in self.deltas):
            raise ValueError(f"deltas are {self.deltas}, expected numbers above 0 and up to 0.5")
        if not self.refreshes or min(self.refreshes) < 0:
            raise ValueError(f"refreshes are {self.refreshes}, expected numbers of 0 or more")
        check_denoising_steps(self.denoising_steps)
        check_least(0, seed=self.seed, noises=self.noises)
        check_least(1, probe_updates=self.probe_updates)
        if self.workers is not None:
            check_least(1, workers=self.workers)

    def settled(self, posed: Posed) -> "GradientCard":
        """With the system's own numbers where none are asked for."""
        return replace(
            self,
            states=self.states or posed.STATES,
            deltas=self.deltas or posed.DELTAS,
            noises=self.noises or posed.NOISES,
            fitted=self.fitted or self.logs / posed.FITTED,
        )


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
def gradients(config: GradientCard) -> None:
    """Compare gradients with finite differences; prints tables, writes figures and pictures."""
    card = _card(config)
    config = card.config
    report = card.local_report()
    print(local_text(report), end="\n\n")
    measured = card.measured()
    comparisons = compare(measured, seed=config.seed)
    floor = floors(measured, seed=config.seed)
    found = aims(measured, comparisons, seed=config.seed) if card.posed.AIMED else []
    shown = [c for c in comparisons if c.contact and c.delta in (None, card.shown_delta)]
    print(comparison_text(shown), end="\n\n")
    if card.real.noisy:
        print(floors_text(each for each in floor if each.system == REAL), end="\n\n")
    if found:
        print(aims_text(found), end="\n\n")
    elif card.posed.AIMED:
        print(f"aims are of δ = {AIM_DELTA}, which was not asked for", end="\n\n")
    print(refreshed_text(card.learned))
    card.write(report, measured, comparisons, floor, found)
    print(f"\nfigures:  {config.out / 'gradients.json'}, {config.out / 'gradients.md'}")
    print(f"pictures: {config.out / 'cosines.png'}, {config.out / 'one_step.png'}")


@dataclass(frozen=True, kw_only=True)
class _Card:
    config: GradientCard
    system: System
    posed: Posed
    probe: Probe | None
    """What reads positions off frames, if there is one."""

    real: Asking
    model: WorldModel
    datasets: dict[str, Dataset]
    cases: Cases
    linear: LinearProbe
    learned: list[Refreshed] = field(default_factory=list)
    """By number of refreshes; filled while gradients are measured."""

    @property
    def deltas(self) -> list[float]:
        return sorted(set(self.config.deltas))

    @property
    def shown_delta(self) -> float:
        deltas = self.deltas
        return AIM_DELTA if AIM_DELTA in deltas else deltas[(len(deltas) - 1) // 2]

    @property
    def denoising_steps(self) -> int:
        return self.config.denoising_steps or self.model.card.denoising_steps

    def local_report(self) -> dict[str, list[Line]]:
        found = {}
        for name, dataset in self.datasets.items():
            figures = local_figures(
                self.model.local_model, self.posed, self.linear, dataset,
                windows=self.config.windows, seed=self.config.seed,
            )  # fmt: skip
            bar = each(figures, desc=f"local model on {name}", unit="part")
            found[name] = local_report(list(bar), self.posed.UNITS, seed=self.config.seed)
        return found

    def measured(self) -> Measured:
        """Of all sources; each state of each as one tick of a bar."""
        again = np.arange(0, len(self.cases), self.posed.REPEATED)
        real = self.real.card(self.cases, again, self.config.out)
        env = self._env()
        seen, read = self._dream(env, "dream", np.arange(len(self.cases)), 0)
        seen_again, read_again = self._dream(env, "dream, other noise", again, 1)
        diffusion = self._hook(env, "diffusion")
        surrogate = dict(self._surrogate(env))

        def by_delta(found: Sequence[Gradients]) -> dict[float, Gradients]:
            return dict(zip(self.deltas, found, strict=True))

        def repeats(
            once: Sequence[Gradients], more: Sequence[Gradients]
        ) -> dict[float, tuple[Gradients, Gradients]]:
            return dict(zip(self.deltas, zip(once, more, strict=True), strict=True))

        return Measured(
            contact=real.touched,
            quantities=quantities(self.posed),
            surrogate=surrogate,
            diffusion=diffusion,
            differences={REAL: by_delta(real.best), DREAM: by_delta(seen), READ: by_delta(read)},
            repeated={
                REAL: repeats(real.once, real.again),
                DREAM: repeats([each.at(again) for each in seen], seen_again),
                READ: repeats([each.at(again) for each in read], read_again),
            },
            repeated_contact=real.touched[again],
        )

    def _env(self) -> DreamVectorEnv:
        return DreamVectorEnv(
            self.model, min(AT_ONCE, len(self.cases)), obs_type="latent",
            denoising_steps=self.denoising_steps, autoreset_mode="Disabled", ends=False,
            horizon=max(self.system.horizon, STEPS + 1),
        )  # fmt: skip

    def _parts(self, env: DreamVectorEnv, what: str, chosen: np.ndarray) -> Iterator[Cases]:
        """As many as there are environments, which are then where these begin."""
        with Bar(total=len(chosen), desc=what, unit="state") as bar:
            for part in parts(len(chosen), env.num_envs):
                here = np.resize(chosen[part], env.num_envs)
                cases = self.cases.at(here)
                env.reset(seed=[self.config.seed + int(i) for i in here], options=cases.start)
                yield cases
                bar.update(min(len(part), len(chosen) - bar.n))

    def _dream(
        self, env: DreamVectorEnv, what: str, chosen: np.ndarray, other: int
    ) -> tuple[list[Gradients], list[Gradients]]:
        found = []
        for cases in self._parts(env, what, chosen):
            start = env.dreams
            found.append(
                dream_gradients(
                    self.model, replace(start, key=start.key + other), cases.action, self.deltas,
                    denoising_steps=self.denoising_steps, probe=self.probe, linear=self.linear,
                )
            )  # fmt: skip
        seen, read = (
            [
                Gradients.joined([part[reader][i] for part in found]).at(slice(len(chosen)))
                for i in range(len(self.deltas))
            ]
            for reader in (0, 1)
        )
        return seen, read

    def _hook(self, env: DreamVectorEnv, gradient: str, what: str | None = None) -> Gradients:
        every = np.arange(len(self.cases))
        found = [
            hook_gradients(env, self.linear, cases.action, gradient)
            for cases in self._parts(env, what or gradient, every)
        ]
        return Gradients.joined(found).at(slice(len(every)))

    def _surrogate(self, env: DreamVectorEnv) -> Iterator[tuple[int, Gradients]]:
        """By number of refreshes, which add up."""
        wanted, done, config = sorted(set(self.config.refreshes)), 0, self.config
        practised, unseen = (
            list(
                each(
                    practice(env, steps=self.system.horizon, seed=config.seed + moved),
                    total=self.system.horizon, desc="smooth actions",
                )
            )
            for moved in (0, 10_000)
        )  # fmt: skip
        own = practised_transitions(unseen)
        logged = logged_transitions(
            self.model.local_model, next(iter(self.datasets.values())),
            windows=config.windows, seed=config.seed,
        )  # fmt: skip
        for times in wanted:
            learned = refresh(env, practised, times=times - done, seed=config.seed + done)
            for _ in each(learned, total=times - done, desc="refreshing"):
                pass
            done = times
            self.learned.append(refreshed(env, times, logged, own))
            yield times, self._hook(env, "surrogate", f"surrogate, {times} refreshes")

    def write(
        self,
        report: dict[str, list[Line]],
        measured: Measured,
        comparisons: list[Comparison],
        floor: list[Floor],
        found: list[Aim],
    ) -> None:
        out, config = self.config.out, self.config
        paths = {name: str(getattr(config, name)) for name in ("out", "logs", "fitted", "probes")}
        figures = {
            "machine": machine(),
            "settings": {**asdict(config), **paths},
            "model": asdict(self.model.card),
            "datasets": {
                name: facts_of(dataset, self.model) for name, dataset in self.datasets.items()
            },
            "states": {"all": len(self.cases), "in_contact": int(measured.contact.sum())},
            "local_model": {name: [asdict(line) for line in its] for name, its in report.items()},
            "comparisons": [asdict(line) for line in comparisons],
            "floors": [asdict(line) for line in floor],
            "aims": [asdict(aim) for aim in found],
            "refreshing": [asdict(line) for line in self.learned],
        }
        texts = [
            local_text(report), comparison_text(comparisons),
            *([floors_text(floor)] if self.real.noisy else []),
            *([aims_text(found)] if self.posed.AIMED else []), refreshed_text(self.learned),
        ]  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "gradients.json", json.dumps(figures, indent=1).encode())
        write_atomically(out / "gradients.md", ("\n\n".join(texts) + "\n").encode())
        figures_of = {
            "cosines.png": draw_cosines(comparisons, delta=self.shown_delta),
            "one_step.png": draw_one_step(measured, delta=self.shown_delta),
        }
        for name, figure in figures_of.items():
            with atomic_file(out / name) as file:
                figure.savefig(file, format="png", dpi=80)


def _card(config: GradientCard) -> _Card:
    """Everything that is asked for is there, and of one system; the linear probe is fitted."""
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(auto if config.device == "auto" else config.device)
    model = WorldModel.from_pretrained(config.world_model).to(device).cast(torch.float32)
    system = model.system
    if system.probe is None or not system.simulators:
        raise ValueError(
            f"{config.world_model} dreams of {system.name!r}, which has no probe or no simulator "
            "here, expected a registered system with both, logged as it was registered: gradients "
            "are compared with the real system's. `wm-gym evaluate` needs neither"
        )
    posed = posed_of(system)
    config = config.settled(posed)
    usual = OTHER_DATA.get(system.name, DATA)
    datasets = open_datasets(usual if config.data == DATA else config.data, usual, model)
    first = next(iter(datasets.values()))
    cases = choose_cases(
        first, count=config.states, reach=max(config.deltas), seed=config.seed,
        shown=max(HISTORY, model.spec.prefill), felt=model.spec.proprio_size > 0,
    )  # fmt: skip
    real = Asking.checked(
        system, first.spec.env_id, posed, sorted(set(config.deltas)), noises=config.noises,
        workers=config.workers, seed=config.seed,
    )  # fmt: skip
    assert config.fitted is not None
    linear = fit_linear_probe(
        posed, model.local_model, Dataset.open(config.fitted), windows=config.windows,
        seed=config.seed,
    )  # fmt: skip
    learning = LearnedProbeConfig(updates=config.probe_updates)
    return _Card(
        config=config, system=system, posed=posed, real=real, model=model, datasets=datasets,
        cases=cases, linear=linear,
        probe=found_probe(system, config.logs, config.probes, learning),
    )  # fmt: skip
