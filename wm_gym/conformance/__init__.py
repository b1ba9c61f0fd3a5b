"""Does a vector environment keep Gymnasium's contract? What `check_env` does for one, for many.

    check_vector_env(lambda num_envs, mode: MyVectorEnv(num_envs, horizon=6, autoreset_mode=mode))

Works for natively batched environments and for `SyncVectorEnv` alike. One rule is one function, its
statement the docstring; `RULES` lists them, causes before symptoms: the first error is the one to
mend.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from gymnasium.vector import AutoresetMode

from wm_gym.conformance.autoreset import rule_disabled, rule_next_step, rule_same_step
from wm_gym.conformance.compare import ConformanceError
from wm_gym.conformance.lives import (
    rule_batch_size,
    rule_determinism,
    rule_episodes_end,
    rule_global_rng,
    rule_independence,
    rule_reset_mask,
    rule_reset_mask_errors,
    rule_seeding,
    rule_single_env,
    rule_staggered_ends,
)
from wm_gym.conformance.probe import Make, MakeSingle, Probe
from wm_gym.conformance.surface import (
    rule_autoreset_metadata,
    rule_close,
    rule_infos,
    rule_outputs,
    rule_outputs_are_copies,
    rule_outputs_are_kept,
    rule_record_episode_statistics,
    rule_render,
    rule_spaces,
)

__all__ = ["RULES", "ConformanceError", "Probe", "Rule", "check_vector_env"]

Rule: TypeAlias = Callable[[Probe], None]
"""Raises if it is broken; a rule about one autoreset mode returns at once in the others."""

RULES: tuple[Rule, ...] = (
    rule_spaces,
    rule_autoreset_metadata,
    rule_outputs,
    rule_close,
    rule_episodes_end,
    rule_infos,
    rule_global_rng,
    rule_seeding,
    rule_determinism,
    rule_outputs_are_kept,
    rule_outputs_are_copies,
    rule_independence,
    rule_reset_mask,
    rule_reset_mask_errors,
    rule_staggered_ends,
    rule_next_step,
    rule_same_step,
    rule_disabled,
    rule_batch_size,
    rule_single_env,
    rule_record_episode_statistics,
    rule_render,
)


def check_vector_env(
    make: Make,
    *,
    make_single: MakeSingle | None = None,
    seed: int = 0,
    num_envs: int = 4,
    modes: Sequence[AutoresetMode] = tuple(AutoresetMode),
    max_steps: int = 40,
    atol: float = 0.0,
    rules: Sequence[Rule] = RULES,
) -> None:
    """Run every rule in every mode; the first one broken raises a `ConformanceError` that names it.

    `make(num_envs, autoreset_mode)` builds the environment bare: a `RecordEpisodeStatistics` around
    it would clash with the one that a rule puts there. Let its episodes be short: random actions
    must end one in every environment within `max_steps`. Halfway some environments are reset by
    `reset_mask`, the last but one after one step, the one before after two, and so on, so that even
    episodes of equal length end one by one.

    `make_single()` builds the same environment unbatched and adds the cross-checks: environment i,
    seeded `seed + i`, must live through what the single one does. The modes are compared with each
    other in any case. `atol` is the tolerance wherever an environment is compared in other company
    (another batch size, mode, neighbours, or none); 0 asks for equality bit for bit. Pictures are
    checked if the environment says `render_mode="rgb_array"`.
    """
    if num_envs < 2:
        raise ValueError(f"num_envs is {num_envs}, expected at least 2: one has no neighbours")
    if not modes:
        raise ValueError("modes is empty, expected at least one AutoresetMode")
    for mode in modes:
        probe = Probe(
            make=make,
            make_single=make_single,
            seed=seed,
            num_envs=num_envs,
            mode=mode,
            modes=tuple(modes),
            max_steps=max_steps,
            atol=atol,
        )
        for rule in rules:
            try:
                rule(probe)
            except Exception as error:
                raise ConformanceError(_report(rule, mode, error)) from error


def _report(rule: Rule, mode: AutoresetMode, error: Exception) -> str:
    name, statement = getattr(rule, "__name__", repr(rule)), " ".join((rule.__doc__ or "").split())
    came = str(error) if isinstance(error, ConformanceError) else repr(error)
    return f"{name} ({mode.name}): {statement} But: {came}"
