"""What dreams, gradients, agents and training return for fixed seeds is what it was.

`python -m tests.golden.record --help` says how to compare bit for bit, and how to record anew.
"""

import random

import numpy as np
import pytest
import torch
from golden import keeping
from golden.comparing import Tolerance, differences
from golden.groups import GROUPS, fast_bfloat16
from golden.record import compared
from golden.traces import Trace

MOST_BYTES = 1_500_000


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize(
    "group",
    [pytest.param(g, marks=[pytest.mark.slow] if each.slow else []) for g, each in GROUPS.items()],
)
def test_a_trace_is_what_it_was(group):
    if GROUPS[group].bfloat16_matters and fast_bfloat16():
        pytest.skip("trains in bfloat16 on this processor, the record was made in float32")
    before = generators()
    assert compared(group, exact=False) == []
    assert generators() == before


def generators():
    """The global ones, which nothing here touches, or puts back."""
    numbers = np.random.get_state()[1]  # noqa: NPY002
    return random.getstate(), numbers.tolist(), torch.get_rng_state().tolist()


def test_every_group_is_kept_and_nothing_else():
    kept = set(keeping.RECORDS.iterdir())
    assert kept == {keeping.path_of(group) for group in GROUPS}
    assert sum(path.stat().st_size for path in kept) < MOST_BYTES


def trace(*, brighter=0, farther=0.0, episode=7, grows=False):
    """Two steps of something, of which one may be different."""
    rng, told = np.random.default_rng(0), Trace()
    for step in range(2):
        frames = rng.integers(0, 200, (3, 96, 96, 3), dtype=np.uint8) + np.uint8(brighter * step)
        latents = rng.standard_normal((3, 160), dtype=np.float32) + np.float32(farther * step)
        reward = torch.tensor([float(step)] * 3, requires_grad=grows)
        told.add(frames=frames, info={"latents": latents, "episode": episode}, reward=reward)
    told.add(last=np.array([None, latents[0]], object))
    return told.record("x")


def test_what_is_kept_is_what_was_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "RECORDS", tmp_path / "new")
    keeping.save("some group", trace())
    assert not list(differences(trace(), keeping.load("some group"), None))


@pytest.mark.parametrize(
    ("change", "exact", "rough"),
    [
        ({"brighter": 1}, ["frames#sha256", "frames#mean"], ["frames#mean"]),
        (
            {"farther": 1e-6},
            ["info/latents#sha256", "info/latents#projected", "last#sha256", "last#projected"],
            [],
        ),
        ({"farther": 1e-2}, None, ["info/latents#projected", "last#projected"]),
        ({"episode": 8}, ["info/episode"], ["info/episode"]),
        ({"episode": 7.0}, ["kinds", "info/episode"], ["kinds", "info/episode"]),
        ({"grows": True}, ["kinds"], ["kinds"]),
    ],
)
def test_what_has_changed_is_told(change, exact, rough):
    for tolerance, expected in ((None, exact), (Tolerance(), rough)):
        found = [line.split(": ")[0] for line in differences(trace(), trace(**change), tolerance)]
        assert expected is None or found == [f"x/{name}" for name in expected]


def test_a_name_that_is_lost_or_new_is_told():
    lost = {name: values for name, values in trace().items() if name != "x/reward"}
    assert list(differences(trace(), lost, Tolerance())) == ["x/reward: only kept"]
    assert list(differences(lost, trace(), Tolerance())) == ["x/reward: only came"]
