"""A study's folder: whether this study may go on there, and which runs in it are finished."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headline.contenders import Contender
from headline.records import DREAM, REAL, Run, read_runs
from headline.seeds import EXAM_SEED, JUDGE_SEED
from headline.table import count
from wm_gym.models.folder import CONFIG, located
from wm_gym.storage.files import locked, write_atomically

if TYPE_CHECKING:
    from headline.study import Study

COMMON, OWN = "study.json", "settings.json"
"""What all runs of a study share, and what each has to itself."""

AGENT = "agent.zip"
"""By which a run goes on."""

_SHARED = (
    "easy", "num_envs", "ppo_envs", "horizon", "exam_steps", "exam_every", "exam_episodes",
    "judge_episodes", "judge_envs",
)  # fmt: skip


def check_folder(study: "Study") -> None:
    """Refuses to go on in a folder of other settings: its runs would not be comparable.

    Budgets may grow: finished runs go on. Who takes part may differ from call to call.
    """
    try:
        common = _common(study)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--world-model: {error}") from None
    for contender, seed in study.taking_part:
        folder = study.folder(contender, seed)
        _refuse_others(folder / OWN, _own(contender), {})
        if contender.shown is not None and not (
            contender.shown.exists() or (folder / AGENT).exists()
        ):
            raise SystemExit(f"there is no {contender.shown} to imitate: `make data` logs it")
    study.out.mkdir(parents=True, exist_ok=True)
    file = study.out / COMMON
    with locked(study.out, patiently=True):
        _refuse_others(file, common, study.budgets)
        _write(file, {**common, **study.budgets})


def keep_settings(folder: Path, contender: Contender) -> None:
    _write(folder / OWN, _own(contender))


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else may work at this run meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except RuntimeError:
            raise SystemExit(
                f"another process is at work in {folder}: wait for it, or leave that run to it "
                "(--agents, --seeds)"
            ) from None
        yield


def finished(folder: Path) -> tuple[list[Run], list[str]]:
    """Runs that have been judged after all the samples that they are to learn from, and what there
    is to say of the others."""
    budgets, done, others = _read(folder / COMMON), [], []
    for run in read_runs(folder):
        goes_by = _read(folder / run.name / OWN).get("goes_by")
        full = budgets[goes_by] if goes_by else 0
        samples = run.progress[-1].samples if run.progress else 0
        if samples >= full and {REAL, DREAM} <= run.judged.keys():
            done.append(run)
        else:
            far = f"{count(samples)} of {count(full)} samples" if samples < full else "not judged"
            others.append(f"{run.agent}, seed {run.seed} ({far})")
    return done, others


def _common(study: "Study") -> dict[str, Any]:
    exams = {"exam_seed": EXAM_SEED, "judge_seed": JUDGE_SEED}
    shared = {name: getattr(study, name) for name in _SHARED}
    return {**shared, **exams, "world_model": content_hash(study.world_model)}


def content_hash(world_model: str) -> str:
    """Of all its parts, which the model's own card has: a name or a path says less."""
    config = json.loads((located(world_model) / CONFIG).read_text(encoding="utf-8"))
    return " ".join(f"{name} {digest[:16]}" for name, digest in sorted(config["sha256"].items()))


def _own(contender: Contender) -> dict[str, Any]:
    return {"goes_by": contender.goes_by, **contender.settings}


def _refuse_others(file: Path, mine: Mapping[str, Any], least: Mapping[str, int]) -> None:
    """`least`: numbers that may have grown since."""
    if not file.exists():
        return
    theirs, ours = dict(_flat(_read(file))), dict(_flat(json.loads(_json({**mine, **least}))))
    differ = [
        f"{name} is {theirs.get(name)!r} there, {ours.get(name)!r} here"
        for name in sorted(theirs.keys() | ours.keys())
        if theirs.get(name) != ours.get(name)
        and not (name in least and theirs.get(name, 0) <= least[name])
    ]
    if differ:
        raise SystemExit(
            f"{file.parent} was begun with other settings ({'; '.join(differ)}): give another "
            "--out, or delete that folder to begin anew"
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names as they are on the command line: fog.window."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise SystemExit(
            f"{file} is missing or damaged ({error}): what is in that folder cannot be trusted "
            "to be of one study; give another --out, or delete the folder to begin anew"
        ) from None


def _write(file: Path, settings: Mapping[str, Any]) -> None:
    write_atomically(file, _json(settings).encode())


def _json(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=1, default=str)
