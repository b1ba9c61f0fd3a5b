"""What `--help` says of each option is a sentence that needs nothing else to be understood."""

import ast
import re
from pathlib import Path

import pytest

import wm_gym
from wm_gym.programs import PROGRAMS

HOME = Path(wm_gym.__file__).parent
CLASSES = {
    "training/recipe.py": ["Training"],
    "training/trainer.py": ["Optimisation"],
    "training/keypoints/settings.py": ["KeypointTraining"],
    "training/keypoints/denoiser.py": ["Dreaming"],
    "training/keypoints/local_model.py": ["Filtering"],
    "data/collect.py": ["Recipe"],
    "programs/collect.py": ["Job"],
    "programs/evaluate.py": ["Evaluate"],
    "programs/gradients.py": ["GradientCard"],
    "programs/soak.py": ["Soak"],
    "programs/report.py": ["Report"],
    "programs/bench.py": ["Bench"],
    "programs/bench_dream.py": ["Dreams"],
    "programs/bench_gradient.py": ["Gradients"],
}
NESTED = {
    "Job.recipe", "Bench.dreams", "Bench.gradients",
    "KeypointTraining.dreaming", "KeypointTraining.filtering",
}  # fmt: skip
"""Groups of options, which say at their head what they are."""

PRIVATE = r"\b(dream|dreams|dreamt|nudges?|moments?|stand-in|surrogate|ours|eye|blur)\b"
"""Words that mean something here alone."""


def options_of_class(kind):
    for field, after in zip(kind.body, [*kind.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign):
            told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            yield f"{kind.name}.{field.target.id}", after.value.value if told else ""


def options_of_function(function):
    told = ast.get_docstring(function).partition("Args:\n")[2]
    texts = dict(re.findall(r"^    (\w+): (.*(?:\n        .*)*)", told, re.MULTILINE))
    arguments = [*function.args.posonlyargs, *function.args.args]
    return [(f"{function.name}.{each.arg}", texts.get(each.arg, "")) for each in arguments]


def every_option():
    for file, names in CLASSES.items():
        for node in ast.parse((HOME / file).read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name in names:
                yield from options_of_class(node)
    for program in PROGRAMS:
        name = program.replace("-", "_")
        for node in ast.parse((HOME / f"programs/{name}.py").read_text()).body:
            asked = isinstance(node, ast.FunctionDef) and node.name == name
            if asked and "Args:" in ast.get_docstring(node):
                yield from options_of_function(node)


OPTIONS = {name: " ".join(told.split()) for name, told in every_option() if name not in NESTED}


def test_every_program_is_looked_at():
    of = {name.split(".")[0].lower() for name in OPTIONS}
    others = {"collect": "recipe", "gradients": "gradientcard", "train": "keypointtraining"}
    assert {others.get(name, name.replace("-", "_")) for name in PROGRAMS} <= of
    assert len(OPTIONS) > 100


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_says_what_it_is(name):
    told = OPTIONS[name]
    assert re.fullmatch(r"[A-Z].*\.", told), f"{told!r} is no sentence"
    assert len(told.split()) >= 3, f"{told!r} says too little"
    assert not told.startswith("Of "), f"{told!r} needs what is before it"
    assert not re.search(PRIVATE, told), f"{told!r} has private words"


def test_the_list_of_programs_has_no_private_words():
    for name, told in PROGRAMS.items():
        assert not re.search(PRIVATE, told), name
