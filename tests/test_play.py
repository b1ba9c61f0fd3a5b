"""`wm-gym play` with keys that nobody presses, on a display that nobody sees."""

import subprocess
import threading
import time
from dataclasses import replace
from itertools import pairwise

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pygame
import pytest
import torch
from tiny_world import make_world_model

from wm_gym.programs.play import Player, opened, play
from wm_gym.programs.play_controls import Controls
from wm_gym.programs.play_session import Session, reward_slope
from wm_gym.programs.play_window import arrow_end
from wm_gym.systems import DOT, PUSH_T, Origin

PINK = (196, 0, 110)
"""Of the arrow."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "push-t"
    make_world_model().save_pretrained(path)
    return path


def make_session(model, env_id="WM-PushT-v0", *, alone=False, **rest):
    rules = {"horizon": rest.pop("horizon", 20)}
    sides = opened(env_id, model, alone=alone, rules=rules)
    return Session(*sides, **rest)


@pytest.fixture
def player(folder, tmp_path):
    made = Player(make_session(folder, seed=3), out=tmp_path)
    yield made
    made.close()


def press(*keys, kind=pygame.KEYDOWN):
    for key in keys:
        pygame.event.post(pygame.event.Event(kind, key=key))


def point(player, side, x, y):
    rect = player.window.pictures[side]
    pos = round(rect.x + x * rect.w), round(rect.y + y * rect.h)
    event = pygame.event.Event(pygame.MOUSEMOTION, pos=pos, rel=(0, 0), buttons=(0, 0, 0))
    pygame.event.post(event)
    return np.subtract(pos, rect.topleft) / rect.size


def after(player, *keys, ticks=0):
    press(*keys)
    player.tick(0)
    for _ in range(ticks):
        player.tick(0.2)


def frames(session):
    return [(scene.real.frame, scene.dream.frame) for scene in session.scenes]


def test_both_start_at_one_frame_and_get_the_same_actions(player, folder):
    after(player, pygame.K_d, ticks=2)
    after(player, pygame.K_w, ticks=3)
    scenes = player.session.scenes
    assert len(scenes) > 4
    assert scenes[-1].action[1] < 0 < scenes[-1].action[0]
    real = gym.make("Real-PushT-v0")
    dream = gym.make("WM-PushT-v0", world_model=folder)
    frame, _ = real.reset(seed=3)
    again, _ = dream.reset(seed=3, options={"frames": frame[None]})
    for scene in scenes:
        np.testing.assert_array_equal(scene.real.frame, frame)
        np.testing.assert_array_equal(scene.dream.frame, again)
        if scene is not scenes[-1]:
            action = scenes[scenes.index(scene) + 1].action
            frame, reward, *_ = real.step(action)
            again, dreamt, *_ = dream.step(action)
    assert (scenes[-1].real.reward, scenes[-1].dream.reward) == (reward, pytest.approx(dreamt))
    np.testing.assert_array_equal(scenes[0].real.frame, scenes[0].dream.frame)


def test_a_start_waits_for_a_move_and_then_keeps_its_rate(player):
    for _ in range(9):
        player.tick(1 / 30)
    assert player.session.steps == 0
    press(pygame.K_a)
    for _ in range(60):  # two seconds, five steps in each
        player.tick(1 / 30)
    assert player.session.steps == 10


def test_pause_stops_steps_and_a_single_step_is_one(player):
    after(player, pygame.K_d, ticks=2)
    steps = player.session.steps
    after(player, pygame.K_SPACE, ticks=5)
    assert player.session.steps == steps
    after(player, pygame.K_PERIOD, ticks=5)
    assert player.session.steps == steps + 1
    after(player, pygame.K_SPACE, ticks=2)
    assert player.session.steps > steps + 1


def test_one_goes_back_to_the_very_moment_that_was_saved_and_it_has_one_future(player):
    after(player, pygame.K_d, ticks=3)
    press(pygame.K_d, kind=pygame.KEYUP)
    after(player, pygame.K_SPACE, pygame.K_b)
    saved, session = frames(player.session), player.session
    futures = []
    for _ in range(2):
        after(player, pygame.K_s, pygame.K_PERIOD, pygame.K_PERIOD)
        futures.append(frames(session)[-1])
        arrow, left = session.now.arrow, len(session.scenes)
        after(player, pygame.K_g)
        press(pygame.K_s, kind=pygame.KEYUP)
        np.testing.assert_equal(frames(session), saved)
        assert len(session.left) == left - len(saved) + 1
    np.testing.assert_equal(*futures)
    assert not np.array_equal(futures[0][1], saved[-1][1])
    after(player, pygame.K_n, pygame.K_g)  # from another episode, too
    np.testing.assert_equal(frames(session), saved)
    assert not np.array_equal(arrow, session.now.arrow)


def test_the_same_start_is_that_of_the_moment_one_went_back_to(player):
    first = frames(player.session)
    after(player, pygame.K_PERIOD, pygame.K_b, pygame.K_n, pygame.K_g, pygame.K_r)
    assert player.session.seed == 3
    np.testing.assert_equal(frames(player.session), first)


def test_going_back_to_nothing_is_said(player):
    after(player, pygame.K_PERIOD, pygame.K_g)
    assert player.session.steps == 1


def test_the_same_start_is_the_same_and_a_new_one_another(player):
    first = frames(player.session)
    after(player, pygame.K_d, ticks=2)
    after(player, pygame.K_r)
    np.testing.assert_equal(frames(player.session), first)
    after(player, pygame.K_n)
    assert not np.array_equal(player.session.now.real.frame, first[0][0])
    assert np.array_equal(player.session.now.real.frame, player.session.now.dream.frame)


def test_a_resynced_dream_goes_on_from_all_real_frames(player, folder):
    after(player, pygame.K_d, ticks=6)
    session = player.session
    assert not np.array_equal(session.now.real.frame, session.now.dream.frame)
    assert session.now.dream.uncertainty > 0
    after(player, pygame.K_SPACE, pygame.K_y)
    np.testing.assert_array_equal(session.now.real.frame, session.now.dream.frame)
    assert session.now.dream.uncertainty == 0
    _, fresh = opened("WM-PushT-v0", folder, alone=True, rules={})
    shown = {
        "frames": np.stack([scene.real.frame for scene in session.scenes]),
        "actions": np.stack([scene.action for scene in session.scenes[1:]]),
    }
    fresh.reset(seed=0, options=shown)
    np.testing.assert_array_equal(
        fresh.get_state().world.features, session._dream.get_state().world.features
    )


def test_an_episode_ends_and_starts_again(folder, tmp_path):
    player = Player(make_session(folder, horizon=3), out=tmp_path)
    after(player, pygame.K_d, ticks=8)
    assert (player.session.steps, player.session.now.arrow) == (3, None)
    after(player, pygame.K_r)
    assert player.session.steps == 0
    player.close()


def test_the_tool_goes_towards_the_mouse_in_either_picture(player):
    session, tool = player.session, PUSH_T.tool
    for side in ("real", "dream"):
        at = point(player, side, 0.5, 0.9)
        player.tick(0)
        before = session.now.real if side == "real" else session.now.dream
        away = (at - before.tool) * np.array(tool.board)
        expected = np.clip(away / tool.reach, -1, 1)
        np.testing.assert_allclose(player.controls.action(session.now), expected, atol=1e-6)
    for _ in range(12):
        point(player, "real", 0.5, 0.9)
        player.tick(0.2)
    np.testing.assert_allclose(session.now.real.tool, (0.5, 0.9), atol=2 / 512)
    after(player, pygame.K_a)  # the keys take over
    assert player.controls.action(session.now)[0] == -0.5


def test_keys_slant_cancel_and_stop_at_speed():
    session = make_session(None, "Real-Dot-v0")
    controls = Controls(DOT, 0.8)

    def told(*keys, kind=pygame.KEYDOWN):
        for key in keys:
            controls.heed(pygame.event.Event(kind, key=key), None)
        return controls.action(session.now)

    np.testing.assert_allclose(told(pygame.K_w, pygame.K_d), [0.8 / 2**0.5, -0.8 / 2**0.5, 0])
    np.testing.assert_allclose(told(pygame.K_s), [0.8, 0, 0])
    np.testing.assert_allclose(told(pygame.K_d, kind=pygame.KEYUP), [0, 0, 0])
    np.testing.assert_allclose(told(pygame.K_e), [0, 0, 0.8])
    controls.heed(pygame.event.Event(pygame.WINDOWFOCUSLOST), None)
    assert not controls.moving


def pictures_of(path):
    """moviepy's reader leaves a pipe open."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    raw = subprocess.run(command, capture_output=True, check=True)
    return np.frombuffer(raw.stdout, np.uint8).reshape(-1, 720, 1024, 3).astype(float)


def test_a_video_has_a_picture_for_each_moment_and_ends_with_the_last(player, tmp_path):
    after(player, pygame.K_v)
    after(player, *[pygame.K_PERIOD] * 3)
    after(player, pygame.K_r, pygame.K_PERIOD)
    player._draw(filming=False)
    last = player.window.pixels()
    after(player, pygame.K_v)
    path = tmp_path / "play-1.mp4"
    assert player.films == [path]
    assert imageio_ffmpeg.count_frames_and_secs(str(path))[0] == 1 + 3 + 1 + 1
    first, *_, shown = pictures_of(path)
    assert np.abs(shown - last).mean() < 5  # a video is never quite what was shown
    assert np.abs(shown - last).mean() < 0.8 * np.abs(first - last).mean()
    after(player, pygame.K_v)
    player.close()  # ends the second one
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "play-2.mp4"))[0] == 1
    assert not list(tmp_path.glob(".play*"))


def test_the_arrow_is_the_slope_of_the_light_model_at_what_the_dream_shows(folder):
    """∂(r₁ + r₂)/∂a by differences, of fₖ₊₁ = truthₖ₊₁ + predict(fₖ, a) − predict(truthₖ, 0)."""
    session = make_session(folder, alone=True, arrow_steps=2)
    local, truth = session._dream.surrogate, [session._dream.get_state().world.features]
    for _ in range(2):
        session._dream.step(np.zeros(2))
        truth.append(session._dream.get_state().world.features)
    local.dynamics.double(), local.reward.double()
    truth = [torch.from_numpy(each).double()[None] for each in truth]
    still = torch.zeros(1, 2, dtype=torch.float64)

    def total(action):
        features, earned = truth[0], 0.0
        for now, then in pairwise(truth):
            change = local.predict(features, action) - local.predict(now, still)
            features = then + change
            earned += local.reward_of(features, action).item()
        return earned

    ways = 1e-4 * torch.eye(2, dtype=torch.float64)[:, None]
    expected = [(total(way) - total(-way)) / 2e-4 for way in ways]
    assert np.linalg.norm(expected) > 1e-3
    np.testing.assert_allclose(session.now.arrow, expected, rtol=1e-3, atol=1e-6)


def test_looking_for_the_slope_changes_no_dream(folder):
    with_arrow, without = (make_session(folder, arrow_steps=n) for n in (3, 0))
    for _ in range(4):
        for session in (with_arrow, without):
            session.step(np.array([0.4, -0.7], np.float32))
    assert without.now.arrow is None
    np.testing.assert_equal(frames(with_arrow), frames(without))
    state = with_arrow._dream.get_state()
    reward_slope(with_arrow._dream, 2)
    np.testing.assert_equal(vars(with_arrow._dream.get_state().world), vars(state.world))


def test_the_arrow_of_the_packaged_model_points_where_the_real_reward_goes_up(tmp_path):
    for seed in range(3):  # starts apart from the block: it pays to come nearer
        session = make_session(None, "Real-PushT-v0", seed=seed)
        np.testing.assert_allclose(session.now.dream.tool, session.now.real.tool, atol=3 / 512)
        way = session.now.arrow / np.linalg.norm(session.now.arrow)
        state, earned = session._real.get_state(), []
        for sign in (1, -1):
            earned.append(sum(session._real.step(0.5 * sign * way)[1] for _ in range(3)))
            session._real.set_state(state)
        assert earned[0] > earned[1]
    player = Player(session, out=tmp_path)
    rect = player.window.pictures["dream"]
    start = np.array(rect.topleft) + np.array(session.now.dream.tool) * rect.size
    middle = (start + arrow_end(tuple(start), tuple(session.now.arrow))) / 2
    assert tuple(player.window.surface.get_at(tuple(middle.round().astype(int))))[:3] == PINK
    player.close()


def test_an_arrow_grows_with_each_tenfold():
    lengths = [np.hypot(*arrow_end((0, 0), (0.6 * size, -0.8 * size))) for size in (0.01, 0.1, 1)]
    np.testing.assert_allclose(np.diff(lengths), 45)
    x, y = arrow_end((5.0, 7.0), (0.6, -0.8))
    assert (y - 7) / (x - 5) == pytest.approx(-0.8 / 0.6)
    assert arrow_end((5.0, 7.0), (0.0, 0.0)) == (5.0, 7.0)


@pytest.mark.parametrize("env_id", ["WM-v0", "WM-Dot-v0", "Real-Dot-v0"])
def test_another_system_is_played_too(env_id, tmp_path):
    make_world_model("Dot").save_pretrained(tmp_path / "model")
    player = Player(make_session(tmp_path / "model", env_id), out=tmp_path)
    assert set(player.window.pictures) == {"real", "dream"}
    assert player.window.pictures["dream"].size == (480, 360)
    before = player.session.now.real.tool
    after(player, pygame.K_e, pygame.K_LEFT, ticks=2)
    assert player.session.now.real.tool[0] < before[0]
    assert (player.session.now.action[[0, 2]] != 0).all()
    assert player.session.now.arrow.shape == (3,)
    player.close()


@pytest.mark.parametrize("env_id", ["WM-PushT-v0", "Real-PushT-v0"])
def test_one_alone_is_played(env_id, folder, tmp_path):
    model = folder if env_id.startswith("WM") else None
    player = Player(make_session(model, env_id, alone=True), out=tmp_path)
    assert list(player.window.pictures) == [env_id.split("-")[0].replace("WM", "dream").lower()]
    after(player, pygame.K_d, pygame.K_b, ticks=2)
    after(player, pygame.K_y, pygame.K_g)
    assert player.session.steps == 0
    player.close()


def test_a_dream_of_a_system_that_nobody_registered_is_played_alone(tmp_path):
    model = make_world_model()
    origin = Origin(fps=20, horizon=9, has_reward=False, has_coverage=False)
    model.card = replace(model.card, system="Strange-v3", origin=origin)
    model.save_pretrained(tmp_path / "model")
    player = Player(make_session(tmp_path / "model", "WM-v0"), out=tmp_path)
    point(player, "dream", 0.2, 0.2)  # there is no tool to lead
    player.tick(0)
    assert not player.controls.moving
    after(player, pygame.K_w, ticks=2)
    assert player.session.now.action[1] == 0.5  # more is up
    assert player.session.now.real is None
    assert player.session.now.dream.progress is None
    player.close()


def test_the_program_plays_until_the_window_is_closed(folder, tmp_path, capsys):
    def close_soon():
        while not pygame.display.get_init() or pygame.display.get_surface() is None:
            time.sleep(0.05)
        time.sleep(0.3)
        press(pygame.K_v, pygame.K_d)
        time.sleep(0.7)
        pygame.event.post(pygame.event.Event(pygame.QUIT))

    thread = threading.Thread(target=close_soon)
    thread.start()
    play("WM-v0", world_model=folder, fps=20, out=tmp_path)
    thread.join()
    told = capsys.readouterr().out
    assert "best progress, real" in told
    assert f"video: {tmp_path / 'play-1.mp4'}" in told
    assert imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "play-1.mp4"))[0] > 1


def test_a_window_that_nobody_can_see_is_refused(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "offscreen")
    with pytest.raises(RuntimeError, match="there is no display"):
        Player(make_session(folder), out=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"speed": 0}, "speed is 0"),
        ({"fps": 0}, "fps is 0"),
        ({"arrow_steps": -1}, "arrow_steps is -1"),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        play(**arguments)


def test_a_tool_is_somewhere_in_the_state():
    with pytest.raises(ValueError, match=r"the tool's position is \('x', 'z'\)"):
        replace(DOT, tool=replace(DOT.tool, position=("x", "z")))


def test_what_actions_mean_for_a_camera_is_three_rows():
    row = (0.1,) * DOT.action_size
    assert replace(DOT, camera=(row, row, row)).camera
    for wrong in ((row, row), (row, row, row[1:])):
        with pytest.raises(ValueError, match=r"camera is .* expected three rows"):
            replace(DOT, camera=wrong)


def test_other_environments_are_refused(folder):
    with pytest.raises(ValueError, match="neither a dream nor a real system"):
        play("CartPole-v1")
    with pytest.raises(ValueError, match="alone dreams of nothing"):
        play("Real-PushT-v0", world_model=folder, alone=True)
