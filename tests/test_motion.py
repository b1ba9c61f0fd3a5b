"""What a dataset's card says of its pictures and actions: whether there is anything to learn."""

from dataclasses import replace

import numpy as np
import pytest

from wm_gym.data import Dataset, DatasetWriter, motion
from wm_gym.data.card import card_text, dataset_card
from wm_gym.data.collect import Recipe, Source

NO_EFFECT = "WARNING: the actions seem to have no effect"
NO_CHANGE = "WARNING: the pictures hardly ever change"
NO_CHOICE = "WARNING: the actions are always the same"


def recorded(env_id, episodes, steps):
    source = Source(Recipe(env_id=env_id, episodes=episodes, steps=steps))
    return source.spec(), [source.record(number) for number in range(episodes)]


def said(folder, spec, episodes):
    writer = DatasetWriter(folder, spec)
    for number, episode in enumerate(episodes):
        writer.add(number, episode)
    writer.finalize()
    card = dataset_card(Dataset.open(folder))
    return card, card_text(card)


@pytest.mark.parametrize(
    ("env_id", "episodes"),
    [pytest.param("Pendulum-v1", 20, marks=pytest.mark.slow), ("Real-Dot-v0", 40)],
)
def test_actions_that_move_something_are_told_from_those_of_other_episodes(
    tmp_path, monkeypatch, env_id, episodes
):
    monkeypatch.setattr(motion, "FEWEST", 800)
    spec, true = recorded(env_id, episodes, 60)
    card, text = said(tmp_path / "true", spec, true)
    assert card.motion.action_share > 0
    assert card.motion.action_seen
    assert "WARNING" not in text
    assert f"if nothing moved: {card.motion.still_psnr:.1f} dB after 50 steps" in text
    strange = [
        replace(one, action=other.action)
        for one, other in zip(true, [*true[1:], true[0]], strict=True)
    ]
    card, text = said(tmp_path / "strange", spec, strange)
    assert not card.motion.action_seen
    assert NO_EFFECT in text
    assert NO_CHANGE not in text


def test_pictures_that_do_not_change_are_called_out(tmp_path):
    spec, episodes = recorded("Real-Dot-v0", 2, 60)
    card, text = said(
        tmp_path, spec, [replace(e, frames=np.full_like(e.frames, 7)) for e in episodes]
    )
    assert (card.motion.unchanged_share, card.motion.still_psnr) == (1, None)
    assert "100% equal the one before; if nothing moved: all are equal after 50 steps" in text
    assert NO_CHANGE in text
    assert NO_EFFECT not in text


def test_actions_that_never_vary_are_called_out(tmp_path):
    spec, episodes = recorded("Real-Dot-v0", 2, 60)
    _, text = said(tmp_path, spec, [replace(e, action=np.zeros_like(e.action)) for e in episodes])
    assert NO_CHOICE in text
    assert NO_EFFECT not in text


def test_of_actions_in_a_little_data_nothing_is_said(tmp_path):
    card, text = said(tmp_path, *recorded("Real-Dot-v0", 1, 6))
    assert card.motion.action_seen is None
    assert "WARNING" not in text
    assert "dB after 6 steps" in text
