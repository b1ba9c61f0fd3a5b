"""An episode is checked when it is made, and its digest is that of its content."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_dataset import make_episode

REFUSED = (ValueError, TypeError)  # TypeError from jaxtyping, when it checks


def test_an_episode_with_a_frame_too_few_is_refused():
    whole = make_episode(0)
    with pytest.raises(ValueError, match=r"action has shape \(3, 2\), expected 2 rows"):
        replace(whole, frames=whole.frames[:-1])


def test_an_episode_with_a_reward_too_many_is_refused():
    whole = make_episode(0)
    with pytest.raises(REFUSED):
        replace(whole, reward=np.append(whole.reward, np.float32(0)))


def test_an_episode_with_facts_of_transitions_is_refused():
    whole = make_episode(0)
    with pytest.raises(ValueError, match="one per frame"):
        replace(whole, facts={"coverage": whole.facts["coverage"][1:]})


def test_an_episode_with_float64_actions_is_refused():
    whole = make_episode(0)
    with pytest.raises(REFUSED):
        replace(whole, action=whole.action.astype(np.float64))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_episode_that_is_not_finite_is_refused(bad):
    reward = make_episode(0).reward.copy()
    reward[1] = bad
    with pytest.raises(ValueError, match="reward is not finite in row 1"):
        replace(make_episode(0), reward=reward)


def test_the_digest_changes_with_anything_in_the_episode():
    whole = make_episode(0)
    frames = whole.frames.copy()
    frames[-1, -1, -1, -1] ^= 1
    facts = {**whole.facts, "contact": ~whole.facts["contact"]}
    changed = [
        replace(whole, frames=frames),
        replace(whole, action=-whole.action),
        replace(whole, reward=-whole.reward),
        replace(whole, terminated=not whole.terminated),
        replace(whole, truncated=not whole.truncated),
        replace(whole, facts=facts),
        replace(whole, facts={f"{name}_": values for name, values in whole.facts.items()}),
        *[replace(whole, **{name: "other"}) for name in ("behaviour", "split", "task")],
        replace(whole, seed=whole.seed + 1),
    ]
    assert len({episode.digest for episode in [whole, *changed]}) == 1 + len(changed)


def test_the_digest_does_not_depend_on_memory_layout():
    whole = make_episode(1)
    facts = dict(reversed([(name, np.asfortranarray(v)) for name, v in whole.facts.items()]))
    strided = replace(whole, frames=np.asfortranarray(whole.frames), facts=facts)
    assert strided.digest == whole.digest
