"""How the world model itself learned: its folder's curves and card."""

from collections.abc import Sequence

from wm_gym.models.folder import CURVES, README, checked_file, exists
from wm_gym.programs.release import score_of
from wm_gym.programs.report_html import LARGEST, Gap, Html, figure, folded, gap, picture, section
from wm_gym.programs.report_markdown import markdown
from wm_gym.programs.report_sources import Json, Model, believed, read_lines
from wm_gym.programs.report_svg import Chart, Curve, Point, panels
from wm_gym.programs.train_run import CURVE

LARGEST_CARD = 1 << 20
"""Bytes: whose card it is, nobody knows."""

SAID = "Each part's score over its updates, on episodes that it does not learn from."


def training(model: Model) -> Html:
    """Of a released folder, or of one that lies where it was trained."""
    shown = _curves(model), _card(model)
    return section("training", "How the world model learned", *shown)


def _curves(model: Model) -> Html:
    charts = [chart for part in model.world_model.kind.curves for chart in _charts(model, part)]
    if charts:
        return figure(SAID, panels(charts), name="training")
    if exists(curves := model.folder / CURVES):
        checked_file(curves, largest=LARGEST)
        alt = "Curves of each part's score over its updates"
        return figure(SAID, picture(curves, alt=alt, least=760), name="training")
    return _missing(model, "Training curves", CURVES)


def _charts(model: Model, part: str) -> list[Chart]:
    """Beside a folder that `wm-gym train` wrote are the records of its parts."""
    file = model.folder.parent / part / CURVE
    if not file.exists():
        return []
    lines: Sequence[Json] = read_lines(file)
    score = score_of(part, lines, model.world_model.kind.curves)
    with believed(file):
        points = [Point(x=float(line["step"]), y=float(line[score])) for line in lines]
    title = f"{part.replace('_', ' ')}: {score.replace('_', ' ')}"
    curve = Curve(name=score, points=points, colour=0)
    return [Chart(title=title, x="updates", y=score, curves=[curve], y_limits=(None, None))]


def _card(model: Model) -> Html:
    if not exists(readme := model.folder / README):
        return _missing(model, "The model card", README)
    checked_file(readme, largest=LARGEST_CARD)
    with believed(readme):
        text = readme.read_text(encoding="utf-8")
    return folded("Model card", markdown(text, captions=("Training", "Scores")))


def _missing(model: Model, what: str, name: str) -> Html:
    why = f"the model folder has no {name}"
    return gap(Gap(what=what, why=why, command="wm-gym release RUN FOLDER"))
