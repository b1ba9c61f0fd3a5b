"""What the gradient card says is so: slopes that are known, and comparisons whose result is."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import make_world_model

from wm_gym.data import Dataset, Windows
from wm_gym.data.collect import Recipe, collect_episodes
from wm_gym.envs.dream import DreamVectorEnv
from wm_gym.evaluation.gradients import (
    HORIZONS,
    STEPS,
    Gradients,
    central_differences,
    choose_cases,
    offsets,
    parts,
)
from wm_gym.evaluation.gradients_card import (
    DIFFUSION,
    DREAM,
    READ,
    REAL,
    SURROGATE,
    Measured,
    aims,
    compare,
    cosines,
)
from wm_gym.evaluation.gradients_dream import (
    dream_gradients,
    hook_gradients,
)
from wm_gym.evaluation.gradients_real import averaged, real_gradients, trials
from wm_gym.evaluation.linear_probe import HISTORY, LinearProbe, filtered, regressed
from wm_gym.evaluation.local_report import POSTERIOR, PRIOR, STILL, local_figures, local_report
from wm_gym.evaluation.probes import posed_of, probe_of, quantities
from wm_gym.evaluation.refreshing import (
    logged_transitions,
    practice,
    practised_transitions,
    refresh,
    refreshed,
)
from wm_gym.programs.gradients import GradientCard, gradients
from wm_gym.systems import DOT, PUSH_T

PROBE, POSED = probe_of(PUSH_T), posed_of(PUSH_T)
pose_of = POSED.pose_of
TURN = 2 * np.pi * 60
DELTAS = (0.02, 0.04)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "play"
    recipe = Recipe(env_id="Real-PushT-v0", episodes=4, steps=60, behaviours=("push",))
    assert len(list(collect_episodes(recipe, folder, workers=1))) == 4
    return Dataset.open(folder)


@pytest.fixture(scope="module")
def world_model():
    return make_world_model("PushT")


def random_probe(world_model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = world_model.local_model.feature_size
    return LinearProbe(
        posed=POSED,
        weight=torch.randn(size, 6, generator=generator),
        offset=torch.randn(6, generator=generator),
    )


def test_half_of_the_cases_begin_with_a_step_in_contact(dataset):
    cases = choose_cases(dataset, count=20, reach=0.3, seed=0)
    touched = dataset.fact("contact")[cases.rows[-1] + 1]
    assert len(cases) == 20
    assert touched.sum() == 10
    assert np.abs(cases.action).max() <= np.float32(0.7)
    logged = dataset.action[cases.rows[-1] + np.arange(STEPS)[:, None]]
    beyond = np.abs(logged) > 0.7
    np.testing.assert_array_equal(cases.action[~beyond], logged[~beyond])
    assert beyond.any()
    moved = cases.action[beyond] * np.sign(logged[beyond])
    assert moved.min() >= np.float32(0.6)
    assert len(np.unique(moved)) > 0.9 * len(moved)  # not all where an encoding has a kink
    ends = dataset.index["start"] + dataset.index["length"] - 1
    episode = np.searchsorted(ends, cases.rows[0])
    np.testing.assert_array_equal(episode, np.searchsorted(ends, cases.rows[-1] + STEPS))
    assert cases.start["frames"].shape == (20, HISTORY, 96, 96, 3)
    again = choose_cases(dataset, count=20, reach=0.3, seed=0)
    np.testing.assert_array_equal(cases.rows, again.rows)
    assert (choose_cases(dataset, count=20, reach=0.3, seed=1).rows != cases.rows).any()


def test_differences_of_a_quadratic_are_its_gradient():
    """x follows the sum of actions, r = −|x|² after each step: exact for any δ."""
    generator = torch.Generator().manual_seed(0)
    action = torch.rand(STEPS, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)

    def rewards(actions):
        return -actions.cumsum(0).square().sum(-1)

    shift = offsets((0.1, 0.5), 2)

    def perturbed(t):
        tried = action.detach()[:, :, None].repeat(1, 1, len(shift), 1)
        tried[t] += torch.from_numpy(shift)
        pose = torch.stack([tried[t, ..., 0], tried[t, ..., 1] * 2, tried[t].sum(-1)], dim=-1)
        return rewards(tried)[t:].permute(1, 2, 0).numpy(), pose.numpy()[None]

    ((near, far),) = central_differences(perturbed, (0.1, 0.5), 2, turn=TURN)
    for i, h in enumerate(HORIZONS):
        (expected,) = torch.autograd.grad(rewards(action)[:h].sum(), action)
        for found in (near, far):
            np.testing.assert_allclose(found.total[:, i], expected.transpose(0, 1), atol=1e-5)
            assert found.of(h).shape == (3, 2 * h)
    expected = np.array([[1.0, 0], [0, 2], [1, 1]])
    np.testing.assert_allclose(near.pose, np.broadcast_to(expected, (3, 3, 2)), atol=1e-5)


def test_differences_of_an_angle_do_not_see_its_cut():
    shift = offsets((0.1,), 2)

    def perturbed(t):
        angle = np.pi + 0.5 * shift[:, 0]
        angle = np.arctan2(np.sin(angle), np.cos(angle))
        pose = np.stack([angle * 0, angle * 0, 60 * angle], axis=-1)[None]
        return np.zeros((1, len(shift), STEPS - t)), pose[None]

    ((found,),) = central_differences(perturbed, (0.1,), 2, turn=TURN)
    np.testing.assert_allclose(found.pose[0, 2], [30.0, 0.0], atol=1e-2)


def test_the_real_system_s_differences_are_those_of_two_futures(dataset):
    cases = choose_cases(dataset, count=6, reach=0.2, seed=0)
    tried = trials(cases, cases.state)
    (found,), touched = averaged(list(real_gradients(PUSH_T, "Real-PushT-v0", tried, (0.2,))), 1)
    simulator = PUSH_T.make_simulator()

    def future(start, action):
        simulator.place(start)
        states, contact = [start], []
        for one in action:
            simulator.advance(one)
            states.append(simulator.state())
            contact.append(simulator.contact)
        states = np.stack(states)
        return pose_of(states[1]), PUSH_T.reward(states[:-1], action, states[1:]), contact[0]

    for i, start in enumerate(cases.state):
        action = cases.action[:, i]
        assert future(start, action)[2] == touched[i]
        for k in range(2):
            shift = np.zeros_like(action)
            shift[0, k] = 0.2
            (pose, reward, _), (back, earned, _) = (future(start, action + s * shift)
                                                    for s in (1, -1))  # fmt: skip
            np.testing.assert_allclose(found.pose[i, :, k], (pose - back) / 0.4, atol=1e-6)
            total = (np.cumsum(reward) - np.cumsum(earned))[[h - 1 for h in HORIZONS]] / 0.4
            np.testing.assert_allclose(found.total[i, :, 0, k], total, atol=1e-6)
    assert touched.any()
    assert not touched.all()
    assert np.abs(found.pose[touched]).max() > 1  # px


def begun(world_model, dataset, count=3):
    cases = choose_cases(dataset, count=count, reach=0.2, seed=0)
    cases = replace(cases, action=(np.floor(cases.action * 10) / 10 + 0.05).astype(np.float32))
    env = DreamVectorEnv(
        world_model, count, obs_type="latent", dtype="float32", autoreset_mode="Disabled"
    )
    env.reset(seed=0, options=cases.start)
    return env, cases


def test_back_propagation_through_the_dream_agrees_with_its_differences(world_model, dataset):
    """Within a bin of the two-hot action, where the random dream is smooth."""
    env, cases = begun(world_model, dataset)
    start, linear = env.dreams, random_probe(world_model)
    seen, read = dream_gradients(
        world_model, start, cases.action, DELTAS, denoising_steps=1, probe=PROBE, linear=linear
    )
    found = hook_gradients(env, linear, cases.action, "diffusion")
    for h in HORIZONS:
        assert np.linalg.norm(found.of(h)) > 1e-3
        scale = np.abs(found.of(h)).max()
        np.testing.assert_allclose(seen[0].of(h), found.of(h), atol=0.03 * scale)
    np.testing.assert_array_equal(seen[0].total, read[0].total)
    assert np.isnan(seen[0].pose).all()  # the random dream shows no T
    assert np.isfinite(read[0].pose).all()
    other = dream_gradients(
        world_model, replace(start, key=start.key + 1), cases.action, DELTAS,
        denoising_steps=1, probe=PROBE, linear=linear,
    )[0]  # fmt: skip
    assert np.abs(other[0].of(4) - seen[0].of(4)).max() > 1e-6


def test_the_surrogate_s_gradients_are_of_the_local_model_and_refreshing_changes_them(
    world_model, dataset
):
    env, cases = begun(world_model, dataset)
    linear, model = random_probe(world_model), world_model.local_model
    features = env.dreams.features
    state = env.get_state()
    found = hook_gradients(env, linear, cases.action, "surrogate")

    action = torch.from_numpy(cases.action[0]).requires_grad_()
    env.set_state(state)
    env.begin_window(gradient="none")
    after = env.step_with_grad(action.detach()).obs  # gradients are taken where the dream is
    jacobian = torch.func.vmap(torch.func.jacrev(linear.pose))(after)
    rows = [
        torch.autograd.grad(model.predict(features, action), action, grad_outputs=row)[0]
        for row in jacobian.unbind(1)
    ]
    expected = torch.stack(rows, dim=1)
    torch.testing.assert_close(torch.from_numpy(found.pose).float(), expected, rtol=1e-3, atol=1e-4)

    practised = list(practice(env, steps=5, seed=0))
    assert len(practised) == 5
    assert len(list(refresh(env, practised, times=2, seed=0))) == 2
    assert not list(refresh(env, [], times=0, seed=0))  # needed a practice, once
    env.reset(seed=0, options=cases.start)
    learned = hook_gradients(env, linear, cases.action, "surrogate")
    assert np.abs(learned.pose - found.pose).max() > 1e-4


def test_a_probe_of_features_that_say_the_state_reads_it():
    rng = np.random.default_rng(0)
    state = np.concatenate([rng.uniform(50, 450, (500, 4)), rng.uniform(-3, 3, (500, 1))], axis=1)
    angle = state[:, 4:]
    said = np.concatenate([state[:, :2] / 99, pose_of(state)[:, :2] / 99, np.cos(angle),
                           np.sin(angle)], axis=1)  # fmt: skip
    features = torch.from_numpy(said @ rng.normal(size=(6, 6)) + 3).float()
    probe = regressed(POSED, features, state)
    for name, error in PROBE.errors(probe.state(features), state).items():
        assert np.median(error) < 0.5, name
    pose = probe.pose(features).numpy()
    np.testing.assert_allclose(pose[:, :2], pose_of(state)[:, :2], atol=2)


def test_features_of_windows_are_what_a_latent_environment_shows(world_model, dataset):
    env, cases = begun(world_model, dataset)
    features = filtered(world_model.local_model, dataset, cases.rows)[-1]
    torch.testing.assert_close(env.dreams.features, features)


def made(pose, total=None):
    n = len(pose)
    total = np.ones((n, len(HORIZONS), STEPS, 2)) if total is None else total
    return Gradients(pose=np.asarray(pose, float), total=total)


def measured(ours, reference, again, contact, diffusion=None):
    both = {0.1: reference}
    return Measured(
        contact=contact,
        quantities=quantities(POSED),
        surrogate={0: ours},
        diffusion=ours if diffusion is None else diffusion,
        differences={REAL: both, DREAM: both, READ: both},
        repeated={name: {0.1: (reference, again)} for name in (REAL, DREAM, READ)},
        repeated_contact=contact,
    )


def line_of(lines, ours=SURROGATE, reference=REAL, quantity="pose", contact=True):
    (found,) = [
        line
        for line in lines
        if (line.ours, line.reference, line.quantity) == (ours, reference, quantity)
        and line.contact == contact
    ]
    return found


def test_equal_gradients_agree_and_opposite_ones_do_not():
    rng = np.random.default_rng(0)
    pose, contact = rng.normal(size=(20, 3, 2)), np.arange(20) < 12
    one, twice, opposite = made(pose), made(2 * pose), made(-pose)
    lines = compare(measured(twice, one, one, contact), seed=0)
    found = line_of(lines)
    assert (found.count, found.excluded) == (12, 0)
    assert found.cosine.median.value == found.cosine.mean.value == pytest.approx(1)
    assert found.sign_agreement.mean.value == 1
    assert found.relative_norm.median.value == pytest.approx(2)
    assert line_of(lines, contact=False).count == 8
    lines = compare(measured(opposite, one, one, contact), seed=0)
    assert line_of(lines).cosine.mean.high == pytest.approx(-1)
    assert line_of(lines).sign_agreement.mean.value == 0
    assert line_of(lines, DREAM).cosine.median.value == pytest.approx(1)
    assert line_of(lines, reference=DIFFUSION).delta is None


def test_gradients_below_the_floor_and_unreadable_ones_are_excluded_and_counted():
    pose = np.ones((10, 3, 2))
    pose[:3] *= 1e-3
    pose[3] = np.nan
    contact, again = np.ones(10, bool), made(pose + 0.1)
    found = line_of(
        compare(measured(made(np.ones((10, 3, 2))), made(pose), again, contact), seed=0)
    )
    assert found.floor == pytest.approx(0.1 * np.sqrt(6))
    assert (found.count, found.excluded) == (6, 4)
    nothing = line_of(compare(measured(made(pose), made(0 * pose), again, contact), seed=0))
    assert (nothing.count, nothing.excluded) == (0, 10)
    assert nothing.cosine is None


def test_aims_are_met_or_missed_by_what_is_measured():
    rng = np.random.default_rng(0)
    pose, contact = rng.normal(size=(30, 3, 2)), np.ones(30, bool)
    one, noisy = made(pose), made(pose + rng.normal(size=pose.shape))
    good = measured(one, one, one, contact, diffusion=noisy)
    bad = measured(noisy, one, one, contact, diffusion=one)
    for each, met in ((good, True), (bad, False)):
        found = aims(each, compare(each, seed=0), seed=0)
        assert len(found) == 4 + 2 * (1 + len(HORIZONS))
        of_pose = [aim for aim in found if aim.name.startswith("pose")]
        assert [aim.met for aim in of_pose] == [met] * 4
    mean = cosines(bad, SURROGATE, REAL, delta=0.1, refreshes=0, what="pose", contact=True).mean()
    assert 0.3 < mean < 0.9


def test_errors_of_the_reward_head_are_of_the_step_that_was_logged(world_model, dataset):
    local_model = make_world_model("PushT").local_model
    torch.nn.init.zeros_(local_model.reward[-1].weight)
    torch.nn.init.zeros_(local_model.reward[-1].bias)  # it says `reward_mean`, which is 0
    linear = random_probe(world_model)
    parts = list(local_figures(local_model, PROBE, linear, dataset, windows=120, seed=3))
    assert len(parts) == 2
    rows = Windows(dataset, length=HISTORY + 16, batch_size=120, seed=3).rows(0)
    lines = {(line.kind, line.name): line for line in local_report(parts, PROBE.UNITS, seed=0)}
    truth = np.abs(dataset.reward[rows[HISTORY - 1]]).mean()
    assert lines["head", "reward"].error.mean == pytest.approx(truth, rel=1e-5)
    state = dataset.fact("state")
    still = PROBE.errors(state[rows[HISTORY - 1]], state[rows[HISTORY + 15]])["tool_position"]
    assert lines[STILL.format(16), "tool_position"].error.mean == pytest.approx(still.mean())
    assert lines[POSTERIOR, "block_angle"].aim == 3.0
    assert lines[PRIOR.format(1), "block_position"].unit == "px"


def test_parts_are_of_one_size_and_cover_all():
    assert [list(part) for part in parts(5, 3)] == [[0, 1, 2], [3, 4, 0]]
    assert [list(part) for part in parts(2, 3)] == [[0, 1]]


def test_the_program_prints_tables_and_writes_figures(world_model, dataset, tmp_path, capsys):
    model, out = tmp_path / "model", tmp_path / "out"
    world_model.save_pretrained(model)
    config = GradientCard(
        world_model=str(model), data=(f"play={dataset.folder}",), fitted=dataset.folder, out=out,
        states=6, windows=10, deltas=(0.1,), refreshes=(0, 2),
    )  # fmt: skip
    gradients(config)
    printed = capsys.readouterr().out
    for words in (
        "play: filtered, block position [px]",
        "return 16: surrogate to diffusion",
        "surrogate after 2 refreshes to real",
        "pose, cosine to the dream's",
    ):
        assert words in printed
    figures = json.loads((out / "gradients.json").read_text(), parse_constant=pytest.fail)
    assert figures["states"]["all"] == 6
    kinds = {(line["ours"], line["refreshes"]) for line in figures["comparisons"]}
    assert kinds == {(SURROGATE, 0), (SURROGATE, 2), (DIFFUSION, None), (DREAM, None), (READ, None)}
    assert {aim["refreshes"] for aim in figures["aims"]} == {0, 2}
    before, after = figures["refreshing"]
    assert (before["refreshes"], after["refreshes"]) == (0, 2)
    for name in ("logged", "own", "logged_reward", "own_reward"):
        assert before[name] > 0
        assert before[name] != after[name]
    for name in ("gradients.md", "cosines.png", "one_step.png"):
        assert (out / name).stat().st_size > 1000


def test_errors_of_a_refreshed_surrogate_are_of_unseen_transitions(world_model, dataset):
    env = DreamVectorEnv(world_model, 3, obs_type="latent")
    practised = list(practice(env, steps=6, seed=0))
    own = practised_transitions(practised)
    logged = logged_transitions(world_model.local_model, dataset, windows=2, seed=0)
    assert (len(own), len(logged)) == (18, 2 * (HISTORY - 1))
    before = refreshed(env, 0, logged, own)
    missed, reward = env.surrogate.missed(own)
    assert before.own == pytest.approx(float(missed.mean()))
    scale = world_model.local_model.config.reward_scale
    assert before.own_reward == pytest.approx(float(reward.abs().mean()) * scale)
    list(refresh(env, practised, times=30, seed=0))
    assert refreshed(env, 30, logged, own).own < before.own


def test_what_cannot_be_measured_is_refused(world_model, dataset, tmp_path):
    with pytest.raises(ValueError, match="states is 1, expected at least 2"):
        GradientCard(world_model="push-t", states=1)
    with pytest.raises(ValueError, match="deltas are"):
        GradientCard(world_model="push-t", deltas=(0.7,))
    with pytest.raises(ValueError, match="refreshes are"):
        GradientCard(world_model="push-t", refreshes=(-1,))
    with pytest.raises(ValueError, match=r"'Dot' has no probe that says what a pose is"):
        posed_of(DOT)
    with pytest.raises(ValueError, match=r"'PushT' has the state .* begins with"):
        posed_of(replace(PUSH_T, state_names=("tool_x", "tool_y", "x", *PUSH_T.state_names[3:])))
    with pytest.raises(ValueError, match="workers is 0"):
        GradientCard(world_model="push-t", workers=0)
    recipe = Recipe(env_id="Real-PushT-v0", episodes=1, steps=20)
    assert list(collect_episodes(recipe, tmp_path / "short", workers=1))
    short = Dataset.open(tmp_path / "short")
    with pytest.raises(ValueError, match="has 21 frames, expected at least 32"):
        choose_cases(short, count=2, reach=0.1, seed=0)
    model = tmp_path / "model"
    world_model.save_pretrained(model)
    config = GradientCard(
        world_model=str(model), data=(f"play={short.folder}",), fitted=dataset.folder,
        out=tmp_path / "out",
    )  # fmt: skip
    with pytest.raises(ValueError, match="has 21 frames"):
        gradients(config)
    assert not (tmp_path / "out").exists()
