"""Who takes part: both agents, a second reference, and ablations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from baselines import Sb3Agent, ppo, sac
from fog_agent import PRESETS, FoG, FoGConfig
from headline.imitation import demonstrations, imitate
from headline.local_dream import LocalDream
from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.envs.loading import loaded

if TYPE_CHECKING:
    from headline.study import Study

SEEDS_APART = 1000
"""Environment i of a run is seeded s + i, so that runs must not be seeded next to each other."""


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

    learns: bool = True
    """Whether it learns in the dream."""


def fog(name: str, config: FoGConfig, *, local: bool = False) -> Contender:
    """`local`: the local model is all the world there is."""

    def world(env: DreamVectorEnv | None) -> Any:
        return LocalDream(env) if local and env is not None else env

    return Contender(
        name=name,
        begin=lambda env, seed: FoG(world(env), replace(config, seed=SEEDS_APART * seed)),
        resume=lambda path, env: FoG.load(path, world(env)),
    )


def imitation(name: str, study: "Study", *, refined: bool) -> Contender:
    """A policy cloned from expert data, and what FoG makes of it in the dream."""

    def begin(env: DreamVectorEnv, seed: int) -> Agent:
        agent = FoG(env, replace(study.fog, seed=SEEDS_APART * seed))
        model = loaded(study.world_model, device="auto", dtype="auto", deterministic=False)
        shown = demonstrations(study.expert, model.local_model)
        imitate(agent, shown, updates=study.clone_updates, noise=study.clone_noise)
        return agent

    return Contender(name=name, begin=begin, resume=FoG.load, learns=refined)


def contenders(study: "Study") -> dict[str, Contender]:
    """By the names they have on the command line."""
    config = study.fog
    return {
        "fog": fog("FoG", config),
        "ppo": Contender(
            name="PPO",
            begin=lambda env, seed: ppo(env, study.ppo, seed=SEEDS_APART * seed),
            resume=Sb3Agent.load,
        ),
        "sac": Contender(
            name="SAC",
            begin=lambda env, seed: sac(env, study.sac, seed=SEEDS_APART * seed),
            resume=Sb3Agent.load,
        ),
        "no-diffusion": fog("FoG without diffusion", replace(config, refreshes=0), local=True),
        "no-refresh": fog("FoG without refreshing", replace(config, refreshes=0)),
        "no-entropy": fog("FoG without entropy", replace(config, entropy=False)),
        "no-look-aheads": fog("FoG without look-aheads", replace(config, look_aheads=0)),
        "pure": fog("pure DMO-SAPO", PRESETS["pure"][1]),
        "imitation": imitation("imitation", study, refined=False),
        "refined": imitation("imitation refined by FoG", study, refined=True),
    }
