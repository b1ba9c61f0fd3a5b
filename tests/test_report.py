"""The page that `wm-gym report` writes: all of what was measured, no more, and fit to be opened."""

import json
import re
import shutil
import subprocess
import sys
from base64 import b64decode
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from headline.folder import content_hash
from headline.records import DREAM, REAL, Exam, append
from PIL import Image
from tiny_world import make_world_model

from wm_gym.data import Dataset
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.evaluation.gradients_card import Aim, Comparison
from wm_gym.evaluation.local_report import Line
from wm_gym.evaluation.refreshing import Refreshed
from wm_gym.evaluation.statistics import Average, Interval, spread
from wm_gym.programs import main
from wm_gym.programs.bench_gradient import Cost
from wm_gym.programs.bench_timing import Speed
from wm_gym.programs.evaluate import Evaluate, evaluate
from wm_gym.programs.report import Report, report
from wm_gym.programs.report_html import fixed, number, with_interval
from wm_gym.programs.report_markdown import markdown
from wm_gym.programs.report_page import SCRIPT
from wm_gym.programs.report_svg import Chart, Curve, Point, drawn

EVIL = "<script>alert('x')</script> & \"quoted\""
FOLDER = '<img src=x onerror=alert(1)> & "quoted"'
"""A folder's name has no slash."""

CARD = f"""---
tags: [{EVIL}]
---
# Card {EVIL}

| part <b> | "updates" |
|---|---|
| {EVIL} | 3 |

Text {EVIL} with `code {EVIL}`, **{EVIL}** and [a link](https://example.com/{EVIL}).

* item {EVIL}

```python
{EVIL}

</code></pre>
```
"""

FIGURES = {
    "film", "filmstrip", "fidelity", "gradients", "one-step", "learning-curves", "policies-film",
    "ranking", "speed", "training",
}  # fmt: skip
INTERVAL = Interval(value=0.9, low=0.8, high=0.95)
BROWSERS = [shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")]
BROWSER = next(filter(None, BROWSERS), None)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Everything that the page can be made of, of one tiny model; programs and records of ours
    write what they can, so that formats do not drift."""
    out = tmp_path_factory.mktemp("measured")
    model = save_model(out / FOLDER)
    data = out / "data"
    recipe = Recipe(env_id="Real-PushT-v0", episodes=1, steps=60)
    assert len(list(collect_episodes(recipe, data, workers=1))) == 1
    evaluate(
        Evaluate(
            world_model=str(model), data=(f"play {EVIL}={data}",), out=out / "fidelity",
            rollouts=2, transitions=5, filmed=1,
        )
    )  # fmt: skip
    card = json.loads((out / "fidelity" / "fidelity.json").read_text())["model"]
    write_gradients(out / "gradients", card)
    write_study(out / "study", model, out / "fidelity" / "dream.mp4")
    (out / "bench.json").write_text(json.dumps(bench(model)))
    assert Dataset.open(data).num_frames == 61
    return out


def save_model(folder):
    world_model = make_world_model()
    facts = {
        "dataset": {"name": EVIL, "hash": "c0ffee", "frames": 1234, "fps": 5},
        "command": f"wm-gym train {EVIL}", "commit": "abc1234", "torch": "2",
    }  # fmt: skip
    world_model.card = replace(world_model.card, facts=facts)
    world_model.save_pretrained(folder, readme=CARD)
    Image.new("RGB", (700, 150), "white").save(folder / "curves.png")
    return folder


def write_gradients(folder, card):
    average = Average(median=INTERVAL, mean=INTERVAL)
    comparisons = [
        Comparison(
            ours=ours, reference=reference, horizon=horizon,
            quantity="pose" if horizon is None else None, delta=0.1, contact=contact,
            refreshes=0 if ours == "surrogate" else None, count=10, excluded=1, floor=0.1,
            reference_norm=1.0, cosine=average if horizon != 2 else None,
            sign_agreement=average, relative_norm=average,
        )
        for ours in ("surrogate", "diffusion")
        for reference in ("real", "dream")
        for horizon in (None, 1, 2, 4, 8)
        for contact in (True, False)
    ]  # fmt: skip
    aims = [Aim(name=EVIL, wanted="≥ 0.9", refreshes=0, found=INTERVAL, met=True)]
    refreshing = [Refreshed(refreshes=0, logged=1.0, own=2.0, logged_reward=3.0, own_reward=4.0)]
    error = spread(np.array([1.0, 2.0, 3.0]), seed=0)
    line = Line(kind="filtered", name="block_position", unit="px", error=error, aim=3.0)
    figures = {
        "settings": {"deltas": [0.05, 0.1], "seed": 0},
        "model": card,
        "datasets": {},
        "local_model": {EVIL: [asdict(line)]},
        "comparisons": [asdict(each) for each in comparisons],
        "aims": [asdict(each) for each in aims],
        "refreshing": [asdict(each) for each in refreshing],
    }
    folder.mkdir()
    (folder / "gradients.json").write_text(json.dumps(figures))
    Image.new("RGB", (600, 200), "white").save(folder / "one_step.png")


def write_study(folder, model, film):
    """Two finished runs of one agent, one unfinished run of another."""
    for seed, agent in enumerate(("<b>FoG", "<b>FoG", "PPO")):
        run = folder / f"{agent}-{seed}"
        for samples in (100, 200):
            append(run / "exams.jsonl", exam(samples, REAL, 0.002 * samples))
            if agent != "PPO":
                append(run / "imagined.jsonl", exam(samples, REAL, 0.5, returns=-samples / 10))
                append(run / "imagined.jsonl", exam(samples, DREAM, 0.5, returns=-samples / 9))
        if agent != "PPO":
            append(run / "judged.jsonl", exam(200, REAL, 0.5))
    settings = {"world_model": content_hash(str(model)), "exam_seed": 1}
    (folder / "study.json").write_text(json.dumps(settings))
    text = f"| agent | samples |\n|---|---|\n| {EVIL} | 200 |\n\nPPO {EVIL} leads.\n"
    (folder / "fog_vs_ppo.md").write_text(text + "\n| policy | imagined |\n|---|---|\n| x | 1 |\n")
    shutil.copy(film, folder / "fog_vs_ppo.mp4")


def exam(samples, env_id, best, returns=-10.0):
    return Exam(
        samples=samples, seconds=samples / 10, env_id=env_id, seed=5,
        returns=[returns - 1, returns, returns + 1], best=[best] * 3, final=[best] * 3,
    )  # fmt: skip


def bench(model):
    speed = Speed([90.0, 100.0, 120.0], [0.01, 0.02]).figures()
    cost = Cost(
        seconds={"none": [1.0, 1.1], "surrogate": [1.2, 1.3], "diffusion": [2.0, 2.1]},
        kept={"none": 0, "surrogate": 1 << 20, "diffusion": 1 << 26},
        peak={"none": 1 << 20, "surrogate": 0, "diffusion": 1 << 26},
    )
    dreams = {f"WM-v0, {n}, 1 step, {d}": speed for n in (1, 16) for d in ("float32", "bfloat16")}
    return {
        "parts": ["dream", "compiled", "profile", "gradient"], "seconds": 1.0, "rounds": 3,
        "machine": EVIL, "dreams": {"world_model": str(model)},
        "dream": {"gym-pusht, pixels": speed, **dreams},
        "compiled": {"WM-v0, compiled": {"failed": EVIL}},
        "profile": {"float32": {"ms": {"painter": 2.0}}},
        "gradient": {
            "windows": {EVIL: {**cost.figures(), "scale": 8.0}},
            "obs": {"pixels": speed, "latent": speed},
            "aims": [{"aim": EVIL, "met": False, "came": "2.00 ×"}],
        },
    }  # fmt: skip


def settings(measured, **others):
    places = {
        "out": measured / "report.html", "fidelity": measured / "fidelity",
        "gradients": measured / "gradients", "study": measured / "study",
        "bench": (measured / "bench.json",),
    }  # fmt: skip
    return Report(world_model=str(measured / FOLDER), **(places | others))


@pytest.fixture(scope="module")
def page(measured):
    report(settings(measured))
    return measured / "report.html"


class Tags(HTMLParser):
    """What a browser would see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words, self.within = [], [], []
        self.scripts = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.within.append(tag)

    def handle_endtag(self, tag):
        while self.within and self.within.pop() != tag:
            pass

    def handle_data(self, data):
        (self.scripts if self.within[-1:] == ["script"] else self.words).append(data)

    @property
    def text(self):
        return "".join(self.words)

    def attributes(self, name):
        return [attrs[name] for _, attrs in self.tags if name in attrs]


def policy(seen):
    said = next(
        a["content"] for _, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy"
    )
    return dict(part.split(" ", 1) for part in said.split("; "))


def test_the_page_has_every_figure_table_and_section(page):
    seen = Tags(page.read_text())
    assert set(seen.attributes("data-figure")) == FIGURES
    assert not [attrs for tag, attrs in seen.tags if attrs.get("class") == "gap"]
    sections = [attrs["id"] for tag, attrs in seen.tags if tag == "section"]
    links = [attrs["href"] for tag, attrs in seen.tags if tag == "a"]
    assert links == [f"#{name}" for name in sections]
    tables = sum(tag == "table" for tag, _ in seen.tags)
    assert tables == sum(tag == "caption" for tag, _ in seen.tags) > 12
    for words in ("c0ffee", "abc1234", "0.90 (0.80–0.95)", "Still learning: PPO, seed 2"):
        assert words in seen.text
    assert all(alt for alt in seen.attributes("alt"))
    labelled = [attrs.get("aria-label") for tag, attrs in seen.tags if tag == "video"]
    assert len(labelled) == 2
    assert all(labelled)


def test_all_text_is_escaped_and_nothing_of_it_runs(page):
    seen = Tags(page.read_text())
    assert seen.scripts == [SCRIPT]
    assert not [name for _, attrs in seen.tags for name in attrs if name.startswith("on")]
    assert "b" not in {tag for tag, _ in seen.tags}
    places = ("Card ", "code ", "item ", "play ", "PPO ", "wm-gym train ")
    assert all(place + EVIL in seen.text for place in places)
    assert seen.text.count(EVIL) > 15
    assert FOLDER in seen.text
    assert policy(seen)["script-src"].startswith("'sha256-")


def test_nothing_is_loaded_from_elsewhere(page):
    text = page.read_text()
    seen = Tags(text)
    for attribute in ("src", "href", "srcset", "poster", "data", "action", "xlink:href"):
        for target in seen.attributes(attribute):
            assert target.startswith(("data:image/png;", "data:video/mp4;", "#")), target[:80]
    assert not re.search(r"url\(|@import", text)
    assert policy(seen)["default-src"] == "'none'"
    assert not {"link", "iframe", "object", "embed", "base"} & {tag for tag, _ in seen.tags}


def test_what_was_not_measured_is_a_gap_that_says_how_to_fill_it(
    measured, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    make_world_model().save_pretrained("a model")
    monkeypatch.setattr(sys, "argv", ["wm-gym", "report", "a model"])
    main()
    printed = capsys.readouterr().out
    text = Tags(Path("out/report.html").read_text()).text
    for command in (
        "wm-gym evaluate 'a model'",
        "wm-gym gradients 'a model'",
        "python examples/fog_vs_ppo.py quick --world-model 'a model'",
        "wm-gym bench --parts dream --world-model 'a model' --out out/bench.json",
        "wm-gym bench --parts gradient --world-model 'a model' --out out/bench_gradient.json",
    ):
        assert f"Run {command} to measure" in text
        assert command in printed
    assert "python examples/fog_vs_ppo.py paper --world-model 'a model'" in text
    assert "out/fidelity/fidelity.json is not here" in text
    assert "page: out/report.html" in printed


def test_what_is_of_another_world_model_is_no_part_of_the_page(measured, tmp_path, monkeypatch):
    """In the usual places it is a gap; where it is asked for, that is a mistake."""
    monkeypatch.chdir(tmp_path)
    other = make_world_model(seed=1)
    other.card = replace(other.card, facts={"command": "wm-gym train other"})
    other.save_pretrained("other")
    Path("out").mkdir()
    for name in ("fidelity", "gradients"):
        shutil.copytree(measured / name, Path("out") / name)
    shutil.copytree(measured / "study", "out/fog_vs_ppo")
    shutil.copy(measured / "bench.json", "out/bench.json")
    report(Report(world_model="other"))
    seen = Tags(Path("out/report.html").read_text())
    assert not seen.attributes("data-figure")
    assert seen.text.count("not of other") >= 4
    for name in ("fidelity", "gradients", "study"):
        with pytest.raises(ValueError, match=r"not (of|in) other"):
            report(Report(world_model="other", **{name: measured / name}))
    with pytest.raises(ValueError, match="not of other"):
        report(Report(world_model="other", bench=(measured / "bench.json",)))


def cut(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def without(*keys):
    def damage(file):
        content = json.loads(file.read_text())
        inner = content
        for key in keys[:-1]:
            inner = inner[key] if key != "*" else next(iter(inner.values()))
        del inner[keys[-1]]
        file.write_text(json.dumps(content))

    return damage


def of_text(text):
    return lambda file: file.write_bytes(text)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("fidelity/fidelity.json", cut),
        ("fidelity/fidelity.json", of_text(b"[1, 2]")),
        ("fidelity/fidelity.json", without("model")),
        ("fidelity/fidelity.json", without("behaviours", "*", "figures", "uncertainty")),
        ("fidelity/filmstrip.png", cut),
        ("gradients/gradients.json", without("comparisons")),
        ("gradients/gradients.json", of_text(b'{"model": 3}')),
        ("gradients/one_step.png", of_text(b"<svg onload=alert(1)>")),
        ("study/study.json", of_text(b"\xff")),
        ("study/PPO-2/exams.jsonl", of_text(b'{"samples": 3}\n')),
        ("study/PPO-2/exams.jsonl", of_text(b'{"samples\n{}\n')),
        ("bench.json", without("dreams")),
        ("bench.json", without("gradient", "windows")),
        ("bench.json", of_text(b"[" * 100_000)),
    ],
)
def test_a_damaged_source_is_refused_by_name(measured, tmp_path, name, damage):
    for part in ("fidelity", "gradients", "study", "bench.json"):
        copy = shutil.copytree if (measured / part).is_dir() else shutil.copy
        copy(measured / part, tmp_path / part)
    damage(tmp_path / name)
    places = {part: tmp_path / part for part in ("fidelity", "gradients", "study")}
    bench = (tmp_path / "bench.json",)
    with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / name))} is damaged, or"):
        report(settings(measured, out=tmp_path / "report.html", bench=bench, **places))
    assert not (tmp_path / "report.html").exists()


def test_what_is_asked_for_has_to_be_there(measured, tmp_path):
    for name in ("fidelity", "gradients", "study"):
        with pytest.raises(FileNotFoundError, match="nowhere"):
            report(settings(measured, **{name: tmp_path / "nowhere"}))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        report(settings(measured, bench=(tmp_path / "nowhere.json",)))


def test_a_study_that_has_only_begun_leaves_gaps(measured, tmp_path):
    (tmp_path / "study").mkdir()
    shutil.copy(measured / "study" / "study.json", tmp_path / "study")
    append(tmp_path / "study" / "FoG-0" / "exams.jsonl", exam(100, REAL, 0.5))
    with (tmp_path / "study" / "FoG-0" / "exams.jsonl").open("a") as file:
        file.write('{"samples": 2')  # being written, or killed
    report(settings(measured, study=tmp_path / "study", out=tmp_path / "report.html"))
    seen = Tags((tmp_path / "report.html").read_text())
    assert FIGURES - set(seen.attributes("data-figure")) == {"ranking", "policies-film"}
    assert "has not been judged yet" in seen.text
    assert "no two policies were judged in both worlds" in seen.text
    assert "FoG, seed 0, still learning" in " ".join(seen.attributes("aria-label"))


def test_scores_of_the_model_folder_stand_in_for_an_evaluation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world_model = make_world_model()
    scores = {"play": {"block_position": {"1": 0.25, "50": 1.5}, "reward": {"1": 0.001}}}
    scores["play"]["psnr.mean"] = {"1": 12.5}
    world_model.card = replace(world_model.card, facts={"scores": scores})
    world_model.save_pretrained("model")
    report(Report(world_model="model"))
    text = Tags(Path("out/report.html").read_text()).text
    assert re.search(r"block position error, px\s*0\.250\s*1\.50", text)
    assert re.search(r"reward error\s*0\.00100\s*–", text)
    assert re.search(r"PSNR, dB, of the mean frame of the data\s*12\.5", text)
    about = "block position after 1 steps of play, median, as it was released"
    assert re.search(rf"dream error\s*0\.250 px\s*{about}", text)
    world_model.card = replace(world_model.card, facts={"scores": {"play": {"reward": {"1": 0.1}}}})
    world_model.save_pretrained("other")
    report(Report(world_model="other", out=Path("other.html")))
    assert re.search(
        r"dream error\s*–\s*not measured here", Tags(Path("other.html").read_text()).text
    )


# Its parts


def test_numbers_have_three_figures_and_no_negative_zero():
    shown = {0.000_412_3: "0.000412", 0.0: "0", 1.2: "1.20", 12.34: "12.3", 12345.6: "12,346"}
    shown |= {16: "16", 1000: "1,000", float("nan"): "–"}
    assert {value: number(value) for value in shown} == shown
    assert (fixed(-0.001, 2), fixed(-1234.5, 1)) == ("0.00", "−1,234.5")
    below = with_interval(Interval(value=-0.5, low=-1.0, high=0.25))
    assert Tags(below).text == "−0.50 (−1.00 to 0.25)"


def test_a_chart_s_marks_lie_where_their_numbers_are():
    points = [Point(x=x, y=y) for x, y in ((1, 0.0), (10, 5.0), (100, 10.0), (1000, float("nan")))]
    chart = Chart(
        title="t", x="x", y="y", curves=[Curve(name="c", points=points, colour=0)],
        log_x=True, x_ticks=[1, 10, 100],
    )  # fmt: skip
    marks = [attrs for tag, attrs in Tags(drawn(chart)).tags if tag == "circle"]
    x, y = (np.array([float(mark[key]) for mark in marks]) for key in ("cx", "cy"))
    assert len(marks) == 3
    np.testing.assert_allclose(np.diff(x), (x[2] - x[0]) / 2, atol=0.11)
    np.testing.assert_allclose(np.diff(y), (y[2] - y[0]) / 2, atol=0.11)
    assert y[2] < y[0]


def test_markdown_is_tables_lists_and_code_and_links_are_not_followed():
    seen = Tags(markdown(CARD, captions=("Parts",)))
    kinds = [tag for tag, _ in seen.tags]
    assert [kinds.count(tag) for tag in ("h3", "table", "li", "pre", "strong", "a")] == [
        1, 1, 1, 1, 1, 0,
    ]  # fmt: skip
    assert "</code></pre>" in seen.text
    assert "tags:" not in seen.text
    empty_corner = markdown("| | a |\n|---|---|\n| b | 1 |", captions=("c",))
    assert Tags(empty_corner).text == "cab1"


def test_markdown_of_any_kind_is_read_in_one_go():
    """Unclosed brackets and rows of a wide table took their square in time."""
    kinds = [
        [tag for tag, _ in Tags(markdown(text, captions=("c",))).tags]
        for text in (f"[{'a' * 500}](b)", f"[{'a' * 501}](b)", f"[a]({'b' * 501})", "[a[b](c)")
    ]
    assert [tags.count("em") for tags in kinds] == [1, 0, 0, 1]
    narrow = Tags(markdown("| a | b |\n|---|---|\n| c |\n| d | e | f |", captions=("c",)))
    assert sum(tag == "td" for tag, _ in narrow.tags) == 1
    assert narrow.text == "cabcde"
    for nasty in ("[", "![", "[a](", "**a*", "|a", "`", "#", "- ["):
        assert markdown(nasty * (10**5 // len(nasty)), captions=())


@pytest.mark.parametrize("name", ["README.md", "curves.png"])
def test_what_lies_outside_a_model_folder_or_is_too_long_is_no_part_of_the_page(
    tmp_path, monkeypatch, name
):
    """A folder from anybody may hold links to anything of its reader's."""
    monkeypatch.chdir(tmp_path)
    model = save_model(tmp_path / "model")
    (model / name).rename("secret")
    (model / name).symlink_to(tmp_path / "secret")
    with pytest.raises(ValueError, match=f"{name} is refused: it is a link that leaves the folder"):
        report(Report(world_model="model"))
    Path("secret").unlink()
    with pytest.raises(ValueError, match=f"{name} is refused"):
        report(Report(world_model="model"))
    (model / name).unlink()
    (model / name).write_bytes(b"x" * (1 << 24 if name == "curves.png" else 1 << 20))
    with (model / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=f"{name} is refused: it has .* bytes, expected 1 to"):
        report(Report(world_model="model"))
    assert not Path("out/report.html").exists()


# In a browser

HARNESS = """<!doctype html>
<body>
<iframe src="{page}" style="width:390px;height:900px;border:0"></iframe>
<iframe src="{page}" style="width:1280px;height:900px;border:0"></iframe>
<pre></pre>
<script>
const frames = [...document.querySelectorAll("iframe")];
function size(each) {{
  const box = each.getBoundingClientRect();
  return [box.width, box.height];
}}
function look(frame) {{
  const page = frame.contentDocument, root = page.documentElement;
  for (const each of page.querySelectorAll("details")) each.open = true;
  return {{
    overflow: root.scrollWidth - root.clientWidth,
    figures: [...page.querySelectorAll("figure")].map(figure => ({{
      name: figure.dataset.figure,
      drawings: [...figure.querySelectorAll(".panels svg, img, video")].map(size),
    }})),
    pictures: [...page.images].map(each => each.naturalWidth),
    films: [...page.querySelectorAll("video")].map(each => [
      each.videoWidth, each.readyState, each.error ? each.error.message : "",
    ]),
    plays: page.createElement("video").canPlayType('video/mp4; codecs="avc1.64001f"'),
    loaded: frame.contentWindow.performance.getEntriesByType("resource")
      .map(each => each.name).filter(name => !name.startsWith("data:")),
  }};
}}
onload = () => setTimeout(() => {{
  document.querySelector("pre").textContent = btoa(JSON.stringify(frames.map(look)));
}}, 2000);
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium or google-chrome on the PATH")
def test_a_browser_shows_every_figure_on_a_phone_and_a_desk_without_errors(page, tmp_path):
    harness = tmp_path / "harness.html"
    harness.write_text(HARNESS.format(page=page.as_uri()))
    done = subprocess.run(
        [
            BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            "--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=8000", "--dump-dom", harness.as_uri(),
        ],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    found = re.search(r"<pre>([\w+/=]+)</pre>", done.stdout)
    assert found, done.stdout[-500:] + done.stderr[-2000:]
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    phone, desk = json.loads(b64decode(found[1]))
    for seen in (phone, desk):
        assert seen["overflow"] <= 0
        assert seen["loaded"] == []
        assert {figure["name"] for figure in seen["figures"]} == FIGURES
        for figure in seen["figures"]:
            assert figure["drawings"], figure
            assert min(map(min, figure["drawings"])) > 40, figure
        assert len(seen["pictures"]) == 3
        assert min(seen["pictures"]) > 0
        assert len(seen["films"]) == 2
        if seen["plays"]:  # not every build can show H.264
            assert all(width > 0 and state > 0 for width, state, _ in seen["films"]), seen["films"]


def test_films_are_what_the_page_says_they_are(page):
    """For browsers that cannot play them."""
    films = [a["src"] for tag, a in Tags(page.read_text()).tags if tag == "video"]
    for film in films:
        kind, content = film.split(",", 1)
        assert kind == "data:video/mp4;base64"
        assert b64decode(content)[4:8] == b"ftyp"
