"""Every group by its name: how it is made, and how near it must come on other processors."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from . import agents, dreams, gradients, training
from .comparing import Tolerance
from .traces import Record

OBS_TYPES = ("pixels", "latent")


@dataclass(frozen=True, kw_only=True)
class Group:
    make: Callable[[], Record]
    tolerance: Tolerance = Tolerance()  # noqa: RUF009
    slow: bool = False
    bfloat16_matters: bool = False
    """Whether it is another thing where the processor is fast at bfloat16."""


ROUGH = Tolerance(rtol=2e-2, atol=2e-2)
"""Of bfloat16."""

LEARNED = Tolerance(rtol=3e-3, atol=3e-3)
"""After optimiser steps, in which Adam divides small gradients by themselves."""


def fast_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported())


GROUPS = {
    **{f"single {t}": Group(make=partial(dreams.single, t)) for t in OBS_TYPES},
    **{
        f"vector {t} {mode}": Group(make=partial(dreams.vector, t, mode))
        for t in OBS_TYPES
        for mode in (dreams.SAME, dreams.NEXT, dreams.DISABLED)
    },
    "denoising": Group(make=dreams.denoising),
    "success": Group(make=dreams.success),
    "starts": Group(make=dreams.starts),
    "snapshots": Group(make=dreams.snapshots),
    "sampled": Group(make=dreams.sampled),
    "bfloat16": Group(make=dreams.bfloat16, tolerance=ROUGH),
    "wrapped": Group(make=dreams.wrapped),
    "real": Group(make=dreams.real),
    **{
        f"gradient {mode} {t}": Group(make=partial(gradients.vector, t, mode))
        for t in OBS_TYPES
        for mode in ("surrogate", "none", "diffusion")
    },
    "gradient single": Group(make=gradients.single),
    "gradient ignored steps": Group(make=gradients.ignored_steps),
    "gradient denoising": Group(make=gradients.denoising),
    "gradient cut": Group(make=gradients.cut),
    "refresh": Group(make=gradients.refresh, tolerance=LEARNED),
    "fog tiny, resumed": Group(
        make=partial(agents.fog, agents.TINY, resumed=True), tolerance=LEARNED
    ),
    "fog looks ahead": Group(make=partial(agents.fog, agents.LOOKS_AHEAD), tolerance=LEARNED),
    "fog pure": Group(make=partial(agents.fog, agents.PURE), tolerance=LEARNED),
    "packaged policy": Group(make=agents.packaged_policy),
    "ppo": Group(make=agents.ppo_of_baselines, tolerance=LEARNED),
    "training": Group(make=training.training, tolerance=LEARNED, slow=True, bfloat16_matters=True),
}
