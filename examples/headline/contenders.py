"""Who takes part: both agents, a second reference, and ablations."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from baselines import Sb3Agent, ppo, sac
from fog_agent import PRESETS, FoG, FoGConfig
from headline.imitation import demonstrations, imitate
from headline.local_dream import LocalDream
from headline.records import LOCAL_WORLD
from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.envs.loading import loaded

if TYPE_CHECKING:
    from headline.study import Study

SEEDS_APART = 1000
"""Environment i of a run is seeded s + i, so that runs must not be seeded next to each other."""

LONG, LONGER = "FoG with twice the samples", 2

Budget = Literal["samples", "long_samples", "ppo_samples"]

HEAD_START = 32
"""Windows in which the critics of a policy that already knows something catch up with it."""


class Told(Protocol):
    """What every agent says of an update."""

    @property
    def samples(self) -> int: ...

    @property
    def local_samples(self) -> int: ...

    @property
    def gradient_steps(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def reward(self) -> float: ...


class Agent(Protocol):
    @property
    def num_timesteps(self) -> int: ...

    @property
    def gradient_steps(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    def updates(self, total_timesteps: int, /) -> Iterator[Told]: ...

    def predict(
        self, obs: Any, /, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]: ...

    def save(self, path: Path, /) -> Any: ...


@dataclass(frozen=True, kw_only=True)
class Contender:
    name: str
    begin: Callable[[DreamVectorEnv, int], Agent]
    """One that has learned nothing, of this seed."""

    resume: Callable[[Path, DreamVectorEnv | None], Agent]
    """One that was saved; without a dream, only to act."""

    settings: Mapping[str, Any]
    """Its own, by which a run that goes on must have begun."""

    goes_by: Budget | None = "samples"
    """Which of the study's budgets is its own; None: it does not learn in the dream."""

    shown: Path | None = None
    """Demonstrations that it learns from first, so that it is examined before it dreams."""

    local: bool = False
    """Whether the local model is all the world there is: its samples are local ones."""


def fog(
    name: str, config: FoGConfig, *, local: bool = False, goes_by: Budget = "samples"
) -> Contender:
    def world(env: DreamVectorEnv | None) -> Any:
        return LocalDream(env) if local and env is not None else env

    return Contender(
        name=name,
        begin=lambda env, seed: FoG(world(env), replace(config, seed=SEEDS_APART * seed)),
        resume=lambda path, env: FoG.load(path, world(env)),
        settings={"fog": asdict(config)},
        goes_by=goes_by,
        local=local,
    )


def imitation(name: str, study: "Study", config: FoGConfig, *, refined: bool) -> Contender:
    """A policy cloned from expert data, and what FoG makes of it in the dream."""

    def begin(env: DreamVectorEnv, seed: int) -> Agent:
        agent = FoG(env, replace(config, seed=SEEDS_APART * seed))
        model = loaded(study.world_model, device="auto", dtype="auto", deterministic=False)
        begun = time.perf_counter()
        shown = demonstrations(study.expert, model.local_model)
        imitate(agent, shown, updates=study.clone_updates, noise=study.clone_noise)
        agent.seconds += time.perf_counter() - begun
        agent.gradient_steps += study.clone_updates
        return agent

    cloning = {name: getattr(study, name) for name in ("expert", "clone_updates", "clone_noise")}
    return Contender(
        name=name, begin=begin, resume=FoG.load, settings={"fog": asdict(config), **cloning},
        goes_by="samples" if refined else None, shown=study.expert,
    )  # fmt: skip


def contenders(study: "Study") -> dict[str, Contender]:
    """By the names they have on the command line."""
    decay = study.fog.decay_samples or study.samples
    config = replace(study.fog, decay_samples=decay)
    pure = replace(PRESETS["pure"][1], decay_samples=decay)
    slower = replace(config, decay_samples=LONGER * decay)
    return {
        "fog": fog("FoG", config),
        "ppo": Contender(
            name="PPO",
            begin=lambda env, seed: ppo(env, study.ppo, seed=SEEDS_APART * seed),
            resume=Sb3Agent.load, settings={"ppo": asdict(study.ppo)}, goes_by="ppo_samples",
        ),
        "sac": Contender(
            name="SAC",
            begin=lambda env, seed: sac(env, study.sac, seed=SEEDS_APART * seed),
            resume=Sb3Agent.load, settings={"sac": asdict(study.sac)}, goes_by="ppo_samples",
        ),
        "long": fog(LONG, slower, goes_by="long_samples"),
        "no-diffusion": fog(LOCAL_WORLD, replace(config, refreshes=0), local=True),
        "no-refresh": fog("FoG without refreshing", replace(config, refreshes=0)),
        "no-logs": fog("FoG without logged steps", replace(config, logs=False)),
        "no-entropy": fog("FoG without entropy", replace(config, entropy=False)),
        "no-look-aheads": fog("FoG without look-aheads", replace(config, look_aheads=0)),
        "pure": fog("pure DMO-SAPO", pure),
        "imitation": imitation("imitation", study, config, refined=False),
        "refined": imitation(
            "imitation refined by FoG", study, replace(config, head_start=HEAD_START), refined=True
        ),
    }  # fmt: skip
