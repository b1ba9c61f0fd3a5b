"""`wm-gym evaluate`: how true a world model's dreams are, on episodes never trained on."""

import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from jaxtyping import UInt8
from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter
from PIL import Image

from wm_gym.data import Dataset
from wm_gym.evaluation.calibration import Judged, Line, calibration_card, judge, transitions
from wm_gym.evaluation.drawing import Film, draw_fidelity, film, film_frames, filmstrip
from wm_gym.evaluation.ends import Ends, ends, ends_text
from wm_gym.evaluation.fidelity import Detection, Fidelity, detection, fidelity
from wm_gym.evaluation.learned_probe import LearnedProbeConfig
from wm_gym.evaluation.probes import Nudging, Probe
from wm_gym.evaluation.report import calibration_text, detection_text, fidelity_text
from wm_gym.evaluation.rollouts import (
    Dreamer,
    Plan,
    Rollouts,
    dream_rollouts,
    floor_rollouts,
    openings,
    plans,
    shown_of,
)
from wm_gym.models.world_model import DTYPES, WorldModel
from wm_gym.numbers import check_least
from wm_gym.programs.evaluate_scenarios import Scenes, check_of, found_probe
from wm_gym.programs.machine import machine
from wm_gym.programs.options import check_denoising_steps
from wm_gym.programs.progress import Bar, each
from wm_gym.programs.report_memory import as_markdown, as_text, sheets
from wm_gym.storage.files import atomic_file, write_atomically
from wm_gym.systems import PUSH_CUBE, PUSH_T, System

DATA = tuple(
    f"{name}=data/{folder}"
    for name, folder in {
        "play": "push-t-test",
        "random": "push-t-random",
        "expert": "push-t-expert",
        "human": "human",
    }.items()
)
"""What the packaged world model is measured on; of these, missing ones are left out."""

USUAL_SYSTEM = PUSH_T.name
"""What the usual datasets, which `make data` logs, are of."""

OTHER_DATA = {PUSH_CUBE.name: ("test=data/push-cube-test",)}
"""What stands in for them, by system."""

LEARNED = (
    "{}: the world model learned from these episodes, so these figures say what it remembers, not "
    "how true its dreams are of others"
)

FILMSTRIP, FILM, SCENARIOS = "filmstrip.png", "dream.mp4", "scenarios.md"
LONGEST_FILM = 600
"""Steps: real and dreamt frames of all of them are kept until they are drawn."""


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    world_model: Annotated[str, tyro.conf.Positional]
    """The world model: a folder, a packaged name such as push-t, or a Hub id."""

    data: tuple[str, ...] = DATA
    """Datasets that the model never learned from, each as name=folder."""

    out: Path = Path("out/fidelity")
    """Folder for figures, pictures and a film."""

    scenarios: Path = Path("data")
    """Folder with the datasets of the system's scenarios, and what its probe learns from, each
    under the name that `wm-gym collect` has for it. What is not there is left out."""

    probes: Path = Path("out/probes")
    """Folder where probes that learned are kept."""

    probe_updates: int = 2500
    """Optimiser steps of a probe, where a system's needs to learn."""

    rollouts: int = 300
    """How many stretches of up to 50 steps of each dataset to predict, and whole episodes."""

    transitions: int = 1000
    """How many real steps of each dataset to compare predicted rewards with."""

    filmed: int = 4
    """How many episodes to film, of each the first 600 steps; the first three are pictures, too."""

    denoising_steps: int | None = None
    """Calls of the diffusion model for each frame; without it the model's own number."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format that the large networks compute in."""

    device: str | None = None
    """Device such as 'cpu' or 'cuda:1'; without it the GPU if there is one."""

    seed: int = 0
    """Seed of what is chosen and drawn at random."""

    def __post_init__(self) -> None:
        for name in ("rollouts", "transitions", "filmed", "probe_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        check_denoising_steps(self.denoising_steps)
        check_least(0, seed=self.seed)


@tyro.conf.configure(tyro.conf.OmitArgPrefixes)
def evaluate(config: Evaluate) -> None:
    """Compare predictions with real episodes; prints tables, writes figures and a film."""
    evaluation = _evaluation(config)
    found, every = evaluation.fidelity()
    lines = evaluation.calibration()
    ended = evaluation.ends()
    memory = evaluation.scenes.memory(evaluation.datasets)
    for name in (FILMSTRIP, FILM, SCENARIOS):  # of other dreams, perhaps
        evaluation.path(name).unlink(missing_ok=True)
    paths = {name: str(getattr(config, name)) for name in ("out", "scenarios", "probes")}
    figures = {
        "machine": machine(),
        "settings": {**asdict(config), **paths},
        "model": asdict(evaluation.dreamer.model.card),
        "datasets": {
            name: facts_of(dataset, evaluation.dreamer.model)
            for name, dataset in evaluation.datasets.items()
        },
        "behaviours": {name: asdict(each) for name, each in found.items()},
        "uncertainty": every and asdict(every),
        "calibration": [asdict(line) for line in lines],
        "ends": {name: asdict(each) for name, each in ended.items()},
        **({"memory": memory} if memory else {}),
    }
    content = json.dumps(figures, indent=1).encode()
    write_atomically(evaluation.path("fidelity.json"), content)
    if told := sheets(json.loads(content)):
        print(*(as_text(one) for one in told if one.brief), sep="\n\n", end="\n\n")
        write_atomically(evaluation.path(SCENARIOS), as_markdown(told).encode())
        print(f"tables:   {config.out / SCENARIOS}")
    print(f"figures:  {config.out / 'fidelity.json'}")
    with atomic_file(evaluation.path("fidelity.png")) as file:
        draw_fidelity(found, evaluation.units).savefig(file, format="png", dpi=80)
    evaluation.shoot()
    print(f"pictures: {config.out / 'fidelity.png'}, {config.out / FILMSTRIP}")
    print(f"film:     {config.out / FILM}  (real above dream; twice real speed)")


@dataclass(frozen=True, kw_only=True)
class _Evaluation:
    config: Evaluate
    system: System
    probe: Probe | None
    dreamer: Dreamer
    datasets: Mapping[str, Dataset]
    plans: Mapping[str, tuple[Plan, ...]]
    scenes: Scenes

    @property
    def units(self) -> Mapping[str, str]:
        return self.probe.UNITS if self.probe else {}

    def path(self, name: str) -> Path:
        self.config.out.mkdir(parents=True, exist_ok=True)
        return self.config.out / name

    def fidelity(self) -> tuple[dict[str, Fidelity], Detection | None]:
        """Of each behaviour, and whether uncertainty tells over all of them."""
        found, all_rollouts, seed = dict[str, Fidelity](), list[Rollouts](), self.config.seed
        for name in self.datasets:
            rollouts = self._gathered(f"dreaming of {name}", name, self._dreams)
            floor = []
            if isinstance(self.probe, Nudging) and "state" in self.datasets[name].spec.facts:
                floor = self._gathered(f"real {name} again", name, self._floor)
            found[name] = fidelity(rollouts, floor, self.probe, seed=seed)
            all_rollouts += rollouts
            print(fidelity_text(name, found[name], self.units), end="\n\n")
            if learned_from(self.dreamer.model, self.datasets[name]):
                print(LEARNED.format(name), end="\n\n")
        for name, floor_beside in self.scenes.floors().items():
            found[name] = floor_beside
            print(fidelity_text(name, floor_beside, self.units), end="\n\n")
        if self.probe is None or any(each.detection is None for each in found.values()):
            return found, None
        every = detection(all_rollouts, self.probe, seed=seed)
        print(detection_text(every, self.probe.WRONG, self.units[self.probe.WRONG[0]]), end="\n\n")
        return found, every

    def _dreams(self, dataset: Dataset, plan: Plan) -> Iterator[Rollouts]:
        return dream_rollouts(self.dreamer, self.probe, dataset, plan)

    def _floor(self, dataset: Dataset, plan: Plan) -> Iterator[Rollouts]:
        assert isinstance(self.probe, Nudging)
        return floor_rollouts(self.system, self.probe, dataset, plan, seed=self.config.seed)

    def _gathered(
        self, what: str, name: str, run: Callable[[Dataset, Plan], Iterator[Rollouts]]
    ) -> list[Rollouts]:
        found, chosen = [], self.plans[name]
        with Bar(total=sum(map(len, chosen)), unit="rollout", desc=what) as bar:
            for plan in chosen:
                parts = []
                for part in run(self.datasets[name], plan):
                    parts.append(part)
                    bar.update(len(part.first_row))
                found.append(Rollouts.joined(parts))
        return found

    def calibration(self) -> list[Line]:
        """Of the heads, over all datasets that log coverage or rewards."""
        parts, config = [], self.config
        for name, dataset in self.datasets.items():
            told = dataset.spec.has_reward or dataset.progress is not None
            if not told or dataset.index["length"].max() < 3:
                continue
            drawn, last = transitions(dataset, count=config.transitions, seed=config.seed)
            bar = Bar(total=len(drawn) + len(last), desc=f"judging {name}")
            with bar:
                for rows, ends in ((drawn, False), (last, True)):
                    for part in judge(self.dreamer.model, dataset, rows, last=ends):
                        parts.append(part)
                        bar.update(len(part.reward))
        if not parts:
            return []
        lines = calibration_card(Judged.joined(parts))
        print(calibration_text(lines), end="\n\n")
        return lines

    def ends(self) -> dict[str, Ends]:
        """Of behaviours whose episodes terminated, where the world model has learned of ends."""
        found, config = dict[str, Ends](), self.config
        for name, dataset in self.datasets.items():
            if not (many := int(dataset.ended.sum())):
                continue
            text = f"{name}: {many:,} of {len(dataset):,} episodes terminated, but "
            if not self.dreamer.model.spec.can_end:
                text += "the world model has seen none that did: its dreams go on"
            elif each := ends(self.dreamer, dataset, count=config.rollouts, seed=config.seed):
                found[name], text = each, ends_text(name, each)
            else:
                text += "they are too short to tell whether dreams do in time"
            print(text, end="\n\n")
        return found

    def shoot(self) -> None:
        """The filmstrip and the film, of the first episodes of each dataset: of whole ones where
        there are any."""
        longest = {name: plans[-1] for name, plans in self.plans.items()}
        steps = max(plan.steps[-1] for plan in longest.values())
        whole = {
            name: openings(self.datasets[name], context=plan.context, steps=steps)
            for name, plan in longest.items()
            if plan.steps[-1] == steps
        }
        films, names = [], list(whole)
        for i in each(range(self.config.filmed), unit="rollout", desc="filming"):
            name = names[i % len(names)]
            plan = whole[name].column(i // len(names)).cut(LONGEST_FILM)
            films.append(film(self.dreamer, self.datasets[name], plan))
        strip = filmstrip(Film.joined(films[:3]))
        with atomic_file(self.path(FILMSTRIP)) as file:
            Image.fromarray(strip).save(file, "png")
        write_film(self.path(FILM), film_frames(Film.joined(films)), fps=2 * self.system.fps)


def write_film(file: Path, pictures: Iterator[UInt8[np.ndarray, "h w c"]], *, fps: float) -> None:
    """Picture by picture; it gets its name once it is whole."""
    first = next(pictures)
    height, width, _ = first.shape
    part = file.with_name(f".{file.stem}-{os.getpid()}.mp4")
    try:
        with FFMPEG_VideoWriter(str(part), (width, height), fps) as writer:
            for picture in chain([first], pictures):
                writer.write_frame(picture)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _evaluation(config: Evaluate) -> _Evaluation:
    """Everything that is asked for is there, and of one system."""
    asked = None if config.device == "auto" else config.device
    device = torch.device(asked or ("cuda" if torch.cuda.is_available() else "cpu"))
    model = WorldModel.from_pretrained(config.world_model).to(device).cast(DTYPES[config.dtype])
    system = model.system
    usual = OTHER_DATA.get(system.name, DATA)
    data = usual if config.data == DATA else config.data
    datasets = open_datasets(data, usual, model)
    learning = LearnedProbeConfig(updates=config.probe_updates)
    probe = found_probe(system, config.scenarios, config.probes, learning)
    steps = config.denoising_steps or model.card.denoising_steps
    dreamer = Dreamer(model=model, denoising_steps=steps, seed=config.seed)
    return _Evaluation(
        config=config,
        system=system,
        probe=probe,
        dreamer=dreamer,
        datasets=datasets,
        scenes=Scenes.found(system, config.scenarios, dreamer, probe, seed=config.seed),
        plans={
            name: plans(
                dataset, context=shown_of(model, dataset), horizon=system.horizon,
                rollouts=config.rollouts, seed=config.seed,
            )
            for name, dataset in datasets.items()
        },
    )  # fmt: skip


def open_datasets(
    data: tuple[str, ...], usual: tuple[str, ...], model: WorldModel
) -> dict[str, Dataset]:
    """By behaviour; of the model's system. What the model learned from warns."""
    of_this = model.card.system == USUAL_SYSTEM or usual == OTHER_DATA.get(model.card.system)
    if data == usual and not of_this:
        raise ValueError(
            f"the world model dreams of {model.card.system!r}, and the datasets that are used "
            f"where none is given are of {USUAL_SYSTEM!r}. Give --data name=folder, of its own "
            "system: `wm-gym collect` logs it, with another --seed than what it learned from"
        )
    datasets = {name: Dataset.open(folder) for name, folder in _folders(data, usual).items()}
    for dataset in datasets.values():
        check_of(dataset, model)
        if learned_from(model, dataset):
            warnings.warn(f"{dataset.folder} is what the world model learned from", stacklevel=2)
    return datasets


def learned_from(model: WorldModel, dataset: Dataset) -> bool:
    return bool(dataset.hash == model.card.facts.get("dataset", {}).get("hash"))


def _folders(data: tuple[str, ...], usual: tuple[str, ...]) -> dict[str, Path]:
    """By behaviour; the usual ones may be missing, those that are asked for may not."""
    folders = {}
    for word in data:
        name, equals, folder = word.partition("=")
        if not (name and equals and folder) or name in folders:
            raise ValueError(f"--data {word!r}: expected name=folder, each name once")
        if data != usual or Path(folder).exists():
            folders[name] = Path(folder)
        else:
            print(f"{folder} is not here: {name} is left out")
    if not folders:
        raise FileNotFoundError(
            "none of the usual datasets is here. Give --data name=folder, which `wm-gym collect` "
            "logs; in a checkout of the repository `make data` logs the usual ones"
        )
    return folders


def facts_of(dataset: Dataset, model: WorldModel) -> dict[str, Any]:
    return {
        "folder": str(dataset.folder),
        "hash": dataset.hash,
        "episodes": len(dataset),
        "frames": dataset.num_frames,
        "learned_from": learned_from(model, dataset),
    }
