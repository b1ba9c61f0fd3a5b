"""The probe reads Push-T's poses off frames, and tells one whole T from anything else."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from wm_gym.systems import PUSH_T
from wm_gym.systems.pusht import picture, probe
from wm_gym.systems.pusht.geometry import BAR, CENTRE, STEM, to_board

EMPTY = np.array([256.0, 256.0, 1e4, 1e4, 0.0])
"""A state whose block is nowhere."""


@pytest.fixture(scope="module")
def painter():
    return picture.Painter()


@pytest.fixture(scope="module")
def states():
    """As anywhere on the board; the tool may lie upon the block, which hides some of it."""
    rng = np.random.default_rng(0)
    places = rng.uniform([20, 20, 130, 130, -9], [492, 492, 382, 382, 9], (60, 5))
    places[:, 2:4] -= to_board(CENTRE[None], places[:, 2:5])[:, 0] - places[:, 2:4]
    return places


@pytest.fixture(scope="module")
def frames(painter, states):
    return np.stack([painter.picture(state, ()) for state in states])


def drawn(painter, states, monkeypatch, bar=BAR, stem=STEM):
    with monkeypatch.context() as patch:
        patch.setattr(picture, "BAR", bar)
        patch.setattr(picture, "STEM", stem)
        return np.stack([painter.picture(state, ()) for state in states])


def blurred(frames, cells):
    blur = ImageFilter.GaussianBlur(cells)
    return np.stack([np.asarray(Image.fromarray(frame).filter(blur)) for frame in frames])


def residuals(frames):
    return probe.read_state(frames).residual


def test_it_reads_poses_off_random_frames(frames, states):
    errors = probe.errors(probe.read_state(frames).state, states)
    assert set(errors) == set(probe.UNITS)
    for error in errors.values():
        assert np.median(error) < 0.75
    assert errors["block_position"].max() < 1.5
    assert errors["block_angle"].max() < 1.5
    assert errors["tool_position"].max() < 2.5


def test_it_reads_poses_while_the_tool_pushes():
    simulator, states, frames, touched = PUSH_T.make_simulator(), [], [], 0
    simulator.place(np.array([256.0, 120.0, 256.0, 200.0, 0.3, 0.0, 0.0]))
    for _ in range(12):  # a red mark shows where they touch
        simulator.advance(np.array([0.0, 0.8]))
        touched += simulator.contact
        states.append(simulator.state())
        frames.append(simulator.frame())
    assert touched > 3
    for error in probe.errors(probe.read_state(np.stack(frames)).state, np.stack(states)).values():
        assert error.max() < 1.5


def test_a_frame_is_read_alike_among_others(frames):
    together, alone = probe.read_state(frames[:9]), probe.read_state(frames[4:5])
    np.testing.assert_allclose(alone.state[0], together.state[4], atol=1e-3)
    assert probe.read_state(frames[:0]).state.shape == (0, 5)


def test_errors_go_around_the_circle_and_about_the_centre_of_gravity():
    truth = np.array([[100.0, 100.0, 200.0, 200.0, 0.1, 0.0, 0.0]])
    turned = truth[:, :5].copy()
    turned[:, 4] += 4 * np.pi - 0.2
    centre = [to_board(CENTRE[None], each[:, 2:5])[:, 0] for each in (truth, turned)]
    turned[:, 2:4] += centre[0] - centre[1]
    turned[:, :2] += (3, 4)
    errors = probe.errors(turned, truth)
    assert errors["block_angle"][0] == pytest.approx(np.degrees(0.2))
    assert errors["block_position"][0] == pytest.approx(0, abs=1e-9)
    assert errors["tool_position"][0] == pytest.approx(5)


def test_a_nudge_is_half_a_pixel_of_the_block_alone(states):
    nudged = probe.nudged(states, np.random.default_rng(0))
    np.testing.assert_allclose(np.hypot(*(nudged - states)[:, 2:4].T), 0.5)
    np.testing.assert_array_equal(nudged[:, [0, 1, 4]], states[:, [0, 1, 4]])


def test_real_frames_show_one_whole_t(frames):
    assert residuals(frames).max() < probe.WHOLE / 2
    assert residuals(blurred(frames, 1)).max() < probe.WHOLE  # a little soft is still one T


def test_what_is_not_one_whole_t_is_told(frames, states, painter, monkeypatch):
    frames, states = frames[::2], states[::2]
    empty = painter.picture(EMPTY, ())[None]
    half_bar, half_stem = BAR.copy(), STEM.copy()
    half_bar[1:3, 0], half_stem[2:, 1] = 15, 75
    other = np.roll(states, 7, axis=0)
    apart = np.hypot(*(other - states)[:, 2:4].T) > 60
    second = np.stack([painter.picture(state, ()) for state in other])
    melted = {
        "missing": empty,
        "blurred": blurred(frames, 3),
        "faded": (frames.astype(int) + empty) // 2,
        "doubled": np.minimum(frames, second)[apart],
        "undecided": ((frames.astype(int) + second) // 2)[apart],
        "half as large": drawn(painter, states, monkeypatch, BAR / 2, STEM / 2),
        "larger by a third": drawn(painter, states, monkeypatch, BAR * 1.33, STEM * 1.33),
        "bar alone": drawn(painter, states, monkeypatch, BAR, BAR),
        "half a bar": drawn(painter, states, monkeypatch, half_bar, STEM),
        "half a stem": drawn(painter, states, monkeypatch, BAR, half_stem),
    }
    for name, pictures in melted.items():
        assert residuals(pictures.astype(np.uint8)).min() > probe.WHOLE, name
