"""`wm-gym release`: a trained and evaluated world model, with its model card."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from wm_gym.evaluation.ends import Ends, ends_text
from wm_gym.evaluation.rewards import RewardErrors, rewards_of
from wm_gym.evaluation.rollouts import MEAN, STILL
from wm_gym.models.folder import CURVES, WORLD_MODEL
from wm_gym.models.world_model import Card, WorldModel
from wm_gym.programs.train_run import CURVE
from wm_gym.storage.files import write_atomically
from wm_gym.systems import registered_systems, system_named

SCORES = {
    "block_position": "block position error [px]",
    "block_angle": "block angle error [°]",
    "tool_position": "tool position error [px]",
    "coverage": "coverage error",
    "reward": "reward error",
    "cube": "cube position error, seen from the robot [m]",
    "robot": "robot position error [m]",
    "heading": "robot heading error [°]",
    "psnr": "PSNR [dB]",
    f"psnr{STILL}": "PSNR [dB] if nothing moved",
    f"psnr{MEAN}": "PSNR [dB] of the mean frame of the data",
}
KNOWS = {
    "PushT": "It knows one T, one goal and one camera.",
    "PushCube": "It knows one robot with one gait, one arena and one cube.",
}
"""Of systems whose data shows no more."""

STEPS = ("1", "5", "15", "50", "100", "147")


def release(run: Path, to: Path, /, fidelity: Path = Path("out/fidelity/fidelity.json")) -> None:
    """Put a run's world model in a folder of its own, with scores, curves and a model card.

    Args:
        run: Folder that `wm-gym train` wrote into.
        to: Folder to write the world model into, such as wm_gym/packaged/push-t.
        fidelity: File of figures that `wm-gym evaluate` wrote about it.
    """
    figures = json.loads(fidelity.read_text())
    world_model = WorldModel.from_pretrained(run / WORLD_MODEL)
    made, judged = world_model.card.facts, figures["model"]["facts"]
    if made != judged:
        raise ValueError(f"{fidelity} is of another world model: made by {judged}, not by {made}")
    settings, steps = figures["settings"], world_model.card.denoising_steps
    if settings["denoising_steps"] not in (None, steps) or settings["dtype"] != "float32":
        raise ValueError(
            f"{fidelity} was measured with {settings}, expected {steps} steps, float32"
        )
    scores = {name: _medians(each["figures"]) for name, each in figures["behaviours"].items()}
    drawn = world_model.kind.curves
    curves = {part: _curve(run / part / CURVE) for part in drawn}
    facts = {
        **made,
        "updates": {part: rows[-1]["step"] for part, rows in curves.items()},
        "scores": scores,
        "scored_on": {name: each["hash"] for name, each in figures["datasets"].items()},
    }
    if figures.get("ends"):
        facts["ends"] = figures["ends"]
    if rewards := rewards_of(figures.get("calibration", [])):
        facts["rewards"] = [asdict(each) for each in rewards]
    world_model.card = replace(world_model.card, facts=facts)
    world_model.save_pretrained(to, readme=_card(world_model, curves))
    picture = io.BytesIO()
    _draw(curves, drawn).savefig(picture, dpi=70)
    write_atomically(to / CURVES, picture.getvalue())
    size = sum(file.stat().st_size for file in to.iterdir())
    print(f"world model: {to}, {size / 1e6:.1f} MB")


Scores = Mapping[str, tuple[str, ...]]
"""As a kind's `curves`."""


def score_of(part: str, rows: Sequence[Mapping[str, Any]], drawn: Scores) -> str:
    """The score whose curve is drawn of a part with such rows."""
    logged = (score for score in drawn[part] if any(score in row for row in rows))
    return next(logged, drawn[part][-1])


def _medians(figures: dict[str, Any]) -> dict[str, dict[str, float]]:
    return {
        name: {step: round(row[step]["median"]["value"], 4) for step in STEPS if step in row}
        for name, row in figures.items()
        if name in SCORES
    }


def _curve(path: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _draw(curves: dict[str, list[dict[str, float]]], drawn: Scores) -> Figure:
    with matplotlib.rc_context({"font.size": 8}):
        figure = Figure(figsize=(12, 2.6), layout="constrained")
        for axis, (part, rows) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
            score = score_of(part, rows, drawn)
            scored = [row for row in rows if score in row]
            axis.plot([row["step"] for row in scored], [row[score] for row in scored])
            axis.set(title=part, xlabel="updates", ylabel=score.replace("_", " "))
    return figure


def _card(world_model: WorldModel, curves: dict[str, list[dict[str, float]]]) -> str:
    card, facts = world_model.card, world_model.card.facts
    dataset = facts["dataset"]
    shown = world_model.spec.prefill
    knows = KNOWS.get(card.system, "It knows what its log shows.")
    return f"""---
library_name: wm_gym
license: mit
tags: [world-model, diffusion, gymnasium, reinforcement-learning]
---
# A world model of {card.system}

{world_model.kind.summary}, trained on logged {_logged(card)}
alone; a Gymnasium environment by

```python
import gymnasium as gym

env = gym.make("wm_gym:WM-v0", world_model="path/to/this/folder")
```

{_use(world_model)}

* **Data:** `{dataset["name"]}`, {dataset["frames"]:,} frames at {dataset["fps"]} Hz, content hash
  `{dataset["hash"]}`
* **Command:** `{facts["command"]}` (commit `{facts["commit"]}`, torch {facts["torch"]})
* **Looks back on** {shown} frames; **denoiser calls a frame:** {card.denoising_steps}

{_training(curves, world_model.kind.curves, refined=facts.get("refined", True))}

![Curves](curves.png)

Open loop, from real frames under the logged actions, on episodes that were {_trained_on(facts)}:
medians over rollouts, by step (`wm-gym evaluate`).

{_scores(facts["scores"])}
{_rewards(facts.get("rewards", []))}{_ends(facts.get("ends", {}))}
Meant for training and comparing policies in simulation research. {knows}
Far from what its data covers it may be confidently wrong; `info["uncertainty"]` says where it
expects to be.
{_licences(card.system)}"""


def _use(world_model: WorldModel) -> str:
    """What can be asked of it."""
    size, felt = world_model.local_model.feature_size, world_model.spec.proprio_size
    lines = [
        "* **Observations:** frames",
        f'  * `obs_type="latent"`: {size} numbers, what its filter makes of all that was seen',
        f'  * `obs_type="dict"`: frames as `pixels`; as `agent_pos` {felt} numbers that the robot',
        "    reports of itself",
        "* **Gradients:** `env.unwrapped.begin_window()`, then `step_with_grad` in place of `step`",
        "* **Many at once:** `gym.make_vec`",
        "* **By hand:** `wm-gym play WM-v0 --world-model path/to/this/folder`",
    ]
    return "\n".join(lines if felt else [*lines[:2], *lines[4:]])


def _licences(system: str) -> str:
    """Of what its log shows and others made."""
    if system not in registered_systems() or not (made := system_named(system).licences):
        return ""
    each = "; ".join(f"{what}: {licence}" for what, licence in made.items())
    return f"\nIts log shows what others made, under their licences: {each}.\n"


def _logged(card: Card) -> str:
    kinds, origin = ["frames", "actions"], card.origin
    kinds += ["rewards"] if origin is None or origin.has_reward else []
    kinds += ["coverages"] if origin is None or origin.has_coverage else []
    return f"{', '.join(kinds[:-1])} and {kinds[-1]}"


def _trained_on(facts: Mapping[str, Any]) -> str:
    seen = facts["dataset"]["hash"]
    names = [name for name, judged in facts["scored_on"].items() if judged == seen]
    return f"**trained on** ({', '.join(names)})" if names else "never trained on"


def _training(curves: dict[str, list[dict[str, float]]], drawn: Scores, *, refined: bool) -> str:
    lines = ["| part | updates | loss at the end | score at the end |", "|---|---|---|---|"]
    for part, rows in curves.items():
        last, score = rows[-1], score_of(part, rows, drawn)
        name = score.replace("_", " ")
        kept = "" if refined or part != "refined" else " (not kept)"
        lines.append(
            f"| {part}{kept} | {last['step']:,} | {last['loss']:.3g} | {name} {last[score]:.3g} |"
        )
    return "\n".join(lines)


def _ends(found: Mapping[str, Any]) -> str:
    lines = [f"* {ends_text(name, Ends(**each))}\n" for name, each in found.items()]
    return f"\n{''.join(lines)}\n" if lines else "\n"


def _rewards(found: Sequence[Mapping[str, Any]]) -> str:
    """Beside the medians above, which do not see what few steps pay."""
    if not found:
        return ""
    lines = [
        "\nRewards, said of real transitions, against those that were paid; the last column is of",
        "always saying their mean:\n",
        "| | transitions | bias | mean error | RMSE | RMSE of the mean |",
        "|---|---|---|---|---|---|",
    ]
    for each in (RewardErrors(**line) for line in found):
        cells = (each.bias, each.error, each.rmse, each.constant_rmse)
        told = " | ".join(f"{cell:.3g}" for cell in cells)
        lines.append(f"| {each.name} | {each.count:,} | {told} |")
    return "\n".join(lines) + "\n"


def _scores(scores: dict[str, dict[str, dict[str, float]]]) -> str:
    known = {step for each in scores.values() for row in each.values() for step in row}
    steps = [step for step in STEPS if step in known]
    lines = [
        "| behaviour | | " + " | ".join(f"step {step}" for step in steps) + " |",
        "|---|---|" + "---|" * len(steps),
    ]
    for name, each in scores.items():
        for key, label in SCORES.items():
            row = each.get(key, {})
            cells = [f"{row[step]:.3g}" if step in row else "–" for step in steps]
            lines += [f"| {name} | {label} | {' | '.join(cells)} |"] if row else []
    return "\n".join(lines)
