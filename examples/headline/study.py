"""Training and judging every contender, so that it can be stopped anywhere and goes on."""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from statistics import mean
from typing import Any

import gymnasium as gym

from baselines import PPOConfig, SACConfig
from fog_agent import FoG, FoGConfig
from headline import easy
from headline.contenders import LONGER, Agent, Contender, contenders
from headline.folder import AGENT, alone, keep_settings
from headline.records import DREAM, GYM, REAL, Exam, Progress, append, read
from headline.seeds import EXAM_SEED, FILM_SEED, JUDGE_SEED
from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.evaluation.judge import Episodes, Policy, Starts, first_frames, joined, rounds
from wm_gym.programs.progress import Bar

MOST_EXAMS = 40


@dataclass(frozen=True, kw_only=True)
class Study:
    agents: tuple[str, ...] = ("fog", "ppo")
    """Who takes part: fog, long (twice its samples), ppo, sac, or an ablation: no-diffusion,
    no-refresh, no-logs, no-entropy, no-look-aheads, pure, imitation, refined."""

    seeds: tuple[int, ...] = (0,)
    """One training run each."""

    samples: int
    """Transitions of the global model that each run learns from. It may grow, and runs go on, where
    fog.decay_samples stays as it is."""

    ppo_samples: int | None = None
    """The same for PPO and SAC; None: as many as for the others."""

    easy: bool = False
    """Starts near the goal alone, in the dream and in the real system."""

    num_envs: int = 32
    """Dreams side by side, whose episodes are staggered."""

    ppo_envs: int | None = 64
    """The same for PPO and SAC; None: as many as for the others."""

    horizon: int = 100
    """Steps of a dreamt episode while agents learn."""

    exam_steps: int = 150
    """Steps of an episode in which they are examined or judged: 30 s."""

    exam_every: int = 25_600
    """Samples between exams on the real system, which draw the curves and choose nothing: the same
    for everybody up to the smallest budget, and from there on at least a 40th of an agent's own."""

    exam_episodes: int = 32
    judge_episodes: int = 100
    judge_envs: int = 50
    """Real systems side by side, as the last policy is judged."""

    trusted: int = 0
    """How many policies are judged in the dream and in the real system, to compare; 0: none."""

    world_model: str = "push-t"
    fog: FoGConfig = field(default_factory=FoGConfig)
    """Its seed is of no use here: give --seeds. Its rates and its noise fall until `samples`, if
    decay_samples does not say otherwise."""

    ppo: PPOConfig = field(default_factory=PPOConfig)
    sac: SACConfig = field(default_factory=SACConfig)
    expert: Path = Path("data/push-t-expert")
    """Demonstrations to imitate, from `make data`."""

    clone_updates: int = 10_000
    clone_noise: float = 0.05
    """How far demonstrations are blurred, in deviations of what was seen."""

    film_steps: int = 150
    film_seed: int = FILM_SEED
    out: Path

    def __post_init__(self) -> None:
        for name in _COUNTS:
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}, expected at least 1")
        if not self.agents or not self.seeds or min(self.seeds) < 0:
            raise ValueError(
                f"agents are {self.agents} and seeds {self.seeds}, expected one of each or more, "
                "and no seed below 0"
            )
        if self.trusted < 0 or self.trusted == 1:
            raise ValueError(f"trusted is {self.trusted}, expected 0, or 2 or more to compare")
        if self.fog.seed:
            raise ValueError(f"fog.seed is {self.fog.seed}: runs are seeded by `seeds`")
        known = list(contenders(self))
        if unknown := [name for name in self.agents if name not in known]:
            raise ValueError(f"agents: {unknown} are not known, expected some of {known}")

    @property
    def taking_part(self) -> list[tuple[Contender, int]]:
        """Contender and seed of each run."""
        known = contenders(self)
        return [(known[name], seed) for seed in self.seeds for name in self.agents]

    @property
    def budgets(self) -> dict[str, int]:
        other = self.samples if self.ppo_samples is None else self.ppo_samples
        long = LONGER * self.samples
        return {"samples": self.samples, "long_samples": long, "ppo_samples": other}

    def exam_places(self, contender: Contender) -> list[int]:
        """Of how many samples: the same for everybody, as far as the smallest budget goes."""
        budget = 0 if contender.goes_by is None else self.budgets[contender.goes_by]
        least = min(self.budgets.values())
        often = max(self.exam_every, least // MOST_EXAMS)
        seldom = max(self.exam_every, budget // MOST_EXAMS)
        at_first = [0] if contender.shown is not None else []
        shared, rest = range(often, min(least, budget), often), range(least, budget, seldom)
        return [*at_first, *shared, *rest, *([budget] if budget else [])]

    def dream(self, contender: Contender | None = None) -> DreamVectorEnv:
        """The world that all of them learn in, as many times as this one was tuned with."""
        theirs = self.ppo_envs if contender and contender.goes_by == "ppo_samples" else None
        model = easy.near_the_goal(self.world_model) if self.easy else self.world_model
        env = gym.make_vec(
            DREAM, num_envs=theirs or self.num_envs, obs_type="latent", world_model=model,
            horizon=self.horizon, autoreset_mode="SameStep", staggered=True,
        ).unwrapped  # fmt: skip
        assert isinstance(env, DreamVectorEnv)
        return env

    def folder(self, contender: Contender, seed: int) -> Path:
        return self.out / f"{contender.name}-{seed}"


_COUNTS = (
    "samples", "ppo_samples", "num_envs", "ppo_envs", "horizon", "exam_steps", "exam_every",
    "exam_episodes", "judge_episodes", "judge_envs", "clone_updates", "film_steps",
)  # fmt: skip


def train(study: Study, contender: Contender, seed: int) -> None:
    """Until the budget is used up; from where the run was, if it has begun."""
    folder, places = study.folder(contender, seed), study.exam_places(contender)
    with alone(folder):
        keep_settings(folder, contender)
        file = folder / AGENT
        if file.exists() and contender.resume(file, None).num_timesteps >= places[-1]:
            return
        work = _Work(study, contender, folder, seed)
        title = f"{contender.name}, seed {seed}"
        with _bar(title, places[-1], work.agent.num_timesteps) as bar:
            for number, place in enumerate(places, 1):
                if work.agent.num_timesteps < place or not file.exists():
                    work.go_on(place, bar, f"exam {number}/{len(places)}")
        work.env.close()


class _Work:
    """One run under way."""

    def __init__(self, study: Study, contender: Contender, folder: Path, seed: int) -> None:
        self.env, self.folder, self.local = study.dream(contender), folder, contender.local
        file = folder / AGENT
        self.agent = (
            contender.resume(file, self.env) if file.exists() else contender.begin(self.env, seed)
        )
        self.exams = Exams(study, REAL, envs=study.exam_episodes)
        self.said: list[str] = []

    def go_on(self, until: int, bar: Any, title: str) -> None:
        """To the next exam, and through it."""
        line = self._learned(until, bar) if until else self._begun()
        append(self.folder / "progress.jsonl", line)
        bar.set_postfix_str(f"{title} under way")
        exam = self.exams.of(self.agent, line, episodes=self.exams.env.num_envs, seed=EXAM_SEED)
        append(self.folder / "exams.jsonl", exam)
        self.said = [f"{title}: real coverage {mean(exam.best):.2f}"]
        bar.set_postfix_str(*self.said)
        _save(self.agent, self.folder, line.samples)

    def _learned(self, until: int, bar: Any) -> Progress:
        rewards = []
        for update in self.agent.updates(until - self.agent.num_timesteps):
            rewards.append(update.reward)
            said = ", ".join([f"reward {update.reward:.2f}", *self.said])
            bar.set_postfix_str(said, refresh=False)
            bar.update(update.samples - bar.n)
            last = update
        return Progress(
            samples=last.samples,
            local_samples=last.local_samples + (last.samples if self.local else 0),
            gradient_steps=last.gradient_steps, seconds=last.seconds, reward=mean(rewards),
        )  # fmt: skip

    def _begun(self) -> Progress:
        """Of what it was shown, and no dream."""
        return Progress(
            samples=0, local_samples=0, gradient_steps=self.agent.gradient_steps,
            seconds=self.agent.seconds, reward=nan,
        )  # fmt: skip


def _save(agent: Agent, folder: Path, samples: int) -> None:
    """Last of all that belongs to an exam: what a killed run repeats, it says again."""
    if isinstance(agent, FoG):
        agent.save(folder / "policies" / f"{samples}.zip", policy_only=True)
    else:
        agent.save(folder / "policies" / f"{samples}.zip")
    agent.save(folder / AGENT)


def _bar(name: str, total: int, done: int) -> Any:
    return Bar(total=total, initial=done, desc=name, unit=" samples", unit_scale=True)


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

    def of(
        self, policy: Policy, line: Progress, *, episodes: int, seed: int, title: str | None = None
    ) -> Exam:
        """With a title, under a bar."""
        parts = []
        with Bar(total=episodes, desc=title or "", unit=" episodes", hidden=title is None) as bar:
            for part in self.rounds(policy, episodes=episodes, seed=seed):
                parts.append(part)
                bar.update(len(part))
        found = joined(parts)
        return Exam(
            samples=line.samples, seconds=line.seconds, env_id=self.env_id, seed=seed,
            returns=found.returns.tolist(), best=found.best.tolist(), final=found.final.tolist(),
        )  # fmt: skip

    def rounds(self, policy: Policy, *, episodes: int, seed: int) -> Iterator[Episodes]:
        return rounds(policy, self.env, episodes=episodes, seed=seed, starts=self.starts)


def judge(study: Study) -> None:
    """Every run's last policy, where it has not been judged yet."""
    for env_id in judges():
        waiting = [part for part in study.taking_part if not _judged(study.folder(*part), env_id)]
        exams = Exams(study, env_id, envs=study.judge_envs) if waiting else None
        for number, (contender, seed) in enumerate(waiting, 1):
            folder = study.folder(contender, seed)
            title = f"{number}/{len(waiting)}: judging {contender.name}, seed {seed}, in {env_id}"
            with alone(folder):
                last = _last(folder)
                policy = contender.resume(folder / "policies" / f"{last.samples}.zip", None)
                assert exams is not None
                exam = exams.of(
                    policy, last, episodes=study.judge_episodes, seed=JUDGE_SEED, title=title
                )
                append(folder / "judged.jsonl", exam)


def _judged(folder: Path, env_id: str) -> bool:
    exams, last = read(folder / "judged.jsonl", Exam), _last(folder)
    return any(exam.env_id == env_id and exam.is_of(last) for exam in exams)


def _last(folder: Path) -> Progress:
    return read(folder / "progress.jsonl", Progress)[-1]


def judges() -> list[str]:
    """The real systems, as far as they are installed, and the dream."""
    there = importlib.util.find_spec("gym_pusht") is not None
    if not there:
        print(f"{GYM} is left out: pip install gym-pusht==0.1.8")
    return [REAL, GYM, DREAM] if there else [REAL, DREAM]
