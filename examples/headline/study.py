"""Training and judging every contender, so that it can be stopped anywhere and goes on."""

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from math import nan
from pathlib import Path
from statistics import mean
from typing import Any

import gymnasium as gym
from tqdm import tqdm

from baselines import PPOConfig, SACConfig
from fog_agent import FoG, FoGConfig
from headline import easy
from headline.contenders import Agent, Contender, contenders
from headline.records import Exam, Progress, append, read
from headline.table import GYM, REAL
from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.evaluation.judge import Episodes, Policy, Starts, first_frames, joined, rounds

DREAM = "WM-PushT-v0"
EXAM_SEED, JUDGE_SEED = 10_000, 20_000
"""First seeds of real episodes: while learning, and in the end. They never meet."""


MOST_EXAMS = 40


@dataclass(frozen=True, kw_only=True)
class Study:
    agents: tuple[str, ...] = ("fog", "ppo")
    """Who takes part: fog, ppo, sac, or an ablation: no-diffusion, no-refresh, no-entropy,
    no-look-aheads, pure, imitation, refined."""

    seeds: tuple[int, ...] = (0,)
    """One training run each."""

    samples: int
    """Transitions of the global model that each run learns from."""

    ppo_samples: int | None = None
    """The same for PPO and SAC; None: as many as for the others."""

    easy: bool = False
    """Starts near the goal alone, in the dream and in the real system."""

    num_envs: int = 64
    """Dreams side by side, whose episodes are staggered."""

    horizon: int = 100
    """Steps of a dreamt episode while agents learn."""

    exam_steps: int = 150
    """Steps of an episode in which they are examined or judged: 30 s."""

    exam_every: int = 25_600
    """Samples between exams on the real system, which draw the curves and choose nothing; more
    where that would be more than 40 of them."""

    exam_episodes: int = 32
    judge_episodes: int = 100
    judge_envs: int = 50
    """Real systems side by side, as the last policy is judged."""

    trusted: int = 0
    """How many policies are judged in the dream and in the real system, to compare; 0: none."""

    world_model: str = "push-t"
    fog: FoGConfig = field(default_factory=FoGConfig)
    ppo: PPOConfig = field(default_factory=PPOConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    expert: Path = Path("data/push-t-expert")
    """Demonstrations to imitate, from `make data`."""

    clone_updates: int = 10_000
    clone_noise: float = 0.05
    """How far demonstrations are blurred, in deviations of what was seen."""

    film_steps: int = 150
    film_seed: int = 20_001
    out: Path

    def __post_init__(self) -> None:
        known = list(contenders(self))
        if unknown := [name for name in self.agents if name not in known]:
            raise ValueError(f"agents: {unknown} are not known, expected some of {known}")

    @property
    def taking_part(self) -> list[tuple[Contender, int, int]]:
        """Contender, seed, samples of each run."""
        known = contenders(self)
        return [
            (known[name], seed, self._budget(name) if known[name].learns else 0)
            for seed in self.seeds
            for name in self.agents
        ]

    def _budget(self, name: str) -> int:
        theirs = self.ppo_samples if name in ("ppo", "sac") else None
        return self.samples if theirs is None else theirs

    def dream(self) -> DreamVectorEnv:
        """The world that all of them learn in."""
        model = easy.near_the_goal(self.world_model) if self.easy else self.world_model
        env = gym.make_vec(
            DREAM, num_envs=self.num_envs, obs_type="latent", world_model=model,
            horizon=self.horizon, autoreset_mode="SameStep", staggered=True,
        ).unwrapped  # fmt: skip
        assert isinstance(env, DreamVectorEnv)
        return env

    def folder(self, contender: Contender, seed: int) -> Path:
        return self.out / f"{contender.name}-{seed}"


SPLIT = ("agents", "seeds", "out", "trusted", "film_steps", "film_seed")
"""What may differ between calls that share a folder: runs may be divided among them."""


def check_folder(study: Study) -> None:
    """Refuses to go on in a folder of other settings: its runs would not be comparable."""
    settings = json.loads(json.dumps(asdict(study), default=str))
    mine = {name: value for name, value in settings.items() if name not in SPLIT}
    file = study.out / "study.json"
    if not file.exists():
        study.out.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(mine, indent=1), encoding="utf-8")
        return
    theirs = json.loads(file.read_text(encoding="utf-8"))
    names = mine.keys() | theirs.keys()
    if differ := sorted(name for name in names if mine.get(name) != theirs.get(name)):
        raise SystemExit(
            f"{study.out} holds a study with other settings ({', '.join(differ)}): give another "
            "--out, or delete that folder to begin anew"
        )


def train(study: Study, contender: Contender, seed: int, budget: int) -> None:
    """Until the budget is used up; from where the run was, if it has begun."""
    folder, env = study.folder(contender, seed), study.dream()
    file = folder / "agent.zip"
    agent = contender.resume(file, env) if file.exists() else contender.begin(env, seed)
    exams = Exams(study, REAL, envs=study.exam_episodes)
    every = max(study.exam_every, budget // MOST_EXAMS)
    with _bar(f"{contender.name}, seed {seed}", budget, agent.num_timesteps) as bar:
        while agent.num_timesteps < budget:
            due = (agent.num_timesteps // every + 1) * every
            _keep(agent, folder, _learned(agent, min(due, budget), bar), exams, bar)
        if not contender.learns and not file.exists():
            nothing = Progress(samples=0, local_samples=0, gradient_steps=0, seconds=0, reward=nan)
            _keep(agent, folder, nothing, exams, bar)
    env.close()


def _learned(agent: Agent, until: int, bar: Any) -> Progress:
    rewards = []
    for update in agent.updates(until - agent.num_timesteps):
        rewards.append(update.reward)
        bar.update(update.samples - bar.n)
        last = update
    return Progress(
        samples=last.samples, local_samples=last.local_samples,
        gradient_steps=last.gradient_steps, seconds=last.seconds, reward=mean(rewards),
    )  # fmt: skip


def _keep(agent: Agent, folder: Path, line: Progress, exams: "Exams", bar: Any) -> None:
    append(folder / "progress.jsonl", line)
    exam = exams.of(agent, line, episodes=exams.env.num_envs, seed=EXAM_SEED)
    append(folder / "exams.jsonl", exam)
    bar.set_postfix_str(f"reward {line.reward:.2f}, real coverage {mean(exam.best):.2f}")
    _save(agent, folder, line.samples)


def _save(agent: Agent, folder: Path, samples: int) -> None:
    """Last of all that belongs to an exam: what a killed run repeats, it says again."""
    if isinstance(agent, FoG):
        agent.save(folder / "policies" / f"{samples}.zip", policy_only=True)
    else:
        agent.save(folder / "policies" / f"{samples}.zip")
    agent.save(folder / "agent.zip")


def _bar(name: str, total: int, done: int) -> Any:
    return tqdm(total=total, initial=done, desc=name, unit=" samples", unit_scale=True)


class Exams:
    """The same episodes for everybody."""

    def __init__(self, study: Study, env_id: str, *, envs: int) -> None:
        self.env_id = env_id
        self.env = gym.make_vec(
            env_id, num_envs=envs, obs_type="latent", world_model=study.world_model,
            horizon=study.exam_steps,
        )  # fmt: skip
        self.starts: Starts | None = easy.real_starts() if study.easy else None
        if env_id == DREAM:
            self.starts = first_frames(gym.make_vec(REAL, num_envs=envs), self.starts)

    def of(self, policy: Policy, line: Progress, *, episodes: int, seed: int) -> Exam:
        found = joined(list(self.rounds(policy, episodes=episodes, seed=seed)))
        return Exam(
            samples=line.samples, seconds=line.seconds, env_id=self.env_id, seed=seed,
            returns=found.returns.tolist(), best=found.best.tolist(), final=found.final.tolist(),
        )  # fmt: skip

    def rounds(self, policy: Policy, *, episodes: int, seed: int) -> Iterator[Episodes]:
        return rounds(policy, self.env, episodes=episodes, seed=seed, starts=self.starts)


def judge(study: Study) -> None:
    """Every run's last policy, where it has not been judged yet."""
    for env_id in judges():
        exams: Exams | None = None
        for contender, seed, _ in study.taking_part:
            folder = study.folder(contender, seed)
            last = read(folder / "progress.jsonl", Progress)[-1]
            known = read(folder / "judged.jsonl", Exam)
            if any((exam.env_id, exam.samples) == (env_id, last.samples) for exam in known):
                continue
            exams = exams or Exams(study, env_id, envs=study.judge_envs)
            policy = contender.resume(folder / "policies" / f"{last.samples}.zip", None)
            print(f"judging {contender.name}, seed {seed}, in {env_id}")
            exam = exams.of(policy, last, episodes=study.judge_episodes, seed=JUDGE_SEED)
            append(folder / "judged.jsonl", exam)


def judges() -> list[str]:
    """The real systems, as far as they are installed, and the dream."""
    there = importlib.util.find_spec("gym_pusht") is not None
    if not there:
        print(f"{GYM} is left out: pip install gym-pusht==0.1.8")
    return [REAL, GYM, DREAM] if there else [REAL, DREAM]
