"""The shaped reward of Push-T over the board, as a picture: `docs/img/reward.png`.

python examples/reward_map.py --out docs/img/reward.png
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from matplotlib.figure import Figure

from wm_gym.systems.pusht.geometry import CENTRE, GOAL, coverage, to_board
from wm_gym.systems.pusht.reward import reward


@dataclass(frozen=True, kw_only=True)
class RewardMap:
    out: Path = Path("out/reward.png")


def rewards(pose: np.ndarray, tool: np.ndarray) -> np.ndarray:
    state = np.concatenate(np.broadcast_arrays(tool, pose[..., :2], pose[..., :2]), axis=-1)
    state[..., 4:5] = pose[..., 2:]
    state = state[..., :5]
    return reward(state, np.zeros((*state.shape[:-1], 2)), state)


def main(config: RewardMap) -> None:
    figure = Figure(figsize=(13, 4), layout="constrained")
    places, turns, tools = figure.subplots(1, 3)
    side = np.linspace(60, 452, 197)
    x, y = np.meshgrid(side, side)
    pose = np.stack([x, y, np.full_like(x, GOAL[2])], -1)
    centre = to_board(CENTRE[None], pose)[..., 0, :]
    shown = places.contourf(x, y, rewards(pose, centre), levels=24, cmap="viridis")
    places.invert_yaxis()
    places.set(title="block at the goal's angle, tool at the block", xlabel="x, px", ylabel="y, px")
    figure.colorbar(shown, ax=places)
    for distance in (0, 5, 20, 80):
        turn = np.radians(np.linspace(-180, 180, 721))
        at = GOAL + np.stack([np.full_like(turn, distance), 0 * turn, turn], -1)
        centre = to_board(CENTRE[None], at)[..., 0, :]
        turns.plot(np.degrees(turn), rewards(at, centre), label=f"{distance} px off")
    turns.set(title="turning the block about its origin", xlabel="angle from the goal, °")
    turns.legend()
    off = np.linspace(0, 100, 401)
    at = GOAL + np.stack([off, 0 * off, 0 * off], -1)
    tools.plot(off, rewards(at, to_board(CENTRE[None], at)[..., 0, :]), label="tool at the block")
    tools.plot(off, rewards(at, np.array([60.0, 60.0])), label="tool in a corner")
    tools.plot(off, coverage(at) - 1, ":", label="coverage − 1, for comparison")
    tools.set(title="sliding the block along x", xlabel="px from the goal")
    tools.legend()
    config.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(config.out, dpi=90)
    print(f"picture: {config.out}")


if __name__ == "__main__":
    main(tyro.cli(RewardMap))
