"""Steps a CPU-second of every environment: ours in batches against MO-Gymnasium's vector wrapper.

Both sides get random actions drawn beforehand, reset by themselves, and hand out rewards as
vectors. MO-Gymnasium steps one environment after the other, so its speed hardly depends on how
many there are; it always gets the same number.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import gymnasium
import mo_gymnasium
import mo_gymnasium.wrappers.vector
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from matplotlib.figure import Figure

from morl.envs import SerialEnv, make_vec
from morl.envs.mujoco import bare_mj_step_rate
from morl.envs.mujoco_recipes import RECIPES
from morl.experiments.bench.measurement import (
    Pairs,
    cpu_cost,
    interleave,
    single_thread,
    table,
    write_report,
)
from morl.registry import ENVS
from morl.testing import sample_actions

THEIR_BATCH = 16

SMALL_STEPS = (16, 64, 1024)
LARGE_STEPS = (16, 64)
"""Sizes of batches of compiled environments: all, and those that take physics."""

SLOW = ("minecart-rgb-v0", "mo-highway-v0", "mo-highway-fast-v0")
"""Environments of a few to a few hundred steps a second: one alone is measured."""

PORTION = 0.1
"""CPU seconds of one measurement, about."""

RING = 32
"""Steps for which actions are drawn; they are used over and over."""

Batch = VectorEnv[Any, Any, Any]


def measure(
    names: Sequence[str] | None = None, *, pairs: int = 5, portion: float = PORTION
) -> dict[str, Any]:
    """Measure environments, one after the other.

    Args:
        names: ids; by default all that can be made here.
        pairs: interleaved measurements a row.
        portion: CPU seconds of one measurement, about.

    Returns:
        A record with one row for each environment and size of our batch.
    """
    chosen = names or [name for name in ENVS if ENVS[name].available() is None]
    rows = []
    with single_thread():
        for name in chosen:
            for num_envs in sizes(name):
                rows.append(_row(name, num_envs, pairs=pairs, portion=portion))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    return {
        "unit": "environment steps a CPU-second, same-step autoreset and vector rewards included",
        "theirs": f"MO-Gymnasium {mo_gymnasium.__version__}, MOSyncVectorEnv of {THEIR_BATCH}",
        "rows": rows,
    }


def sizes(name: str) -> tuple[int, ...]:
    """Sizes of our batch that are measured."""
    if name in SLOW:
        return (1,)
    if name in RECIPES:
        return LARGE_STEPS
    probe = make_vec(name, 1)
    probe.close()
    return (THEIR_BATCH,) if isinstance(probe, SerialEnv) else SMALL_STEPS


def _row(name: str, num_envs: int, *, pairs: int, portion: float) -> dict[str, Any]:
    costs = _costs(name, num_envs, pairs=pairs, portion=portion)
    row: dict[str, Any] = {"env": name, "num_envs": num_envs}
    row |= costs.record(per_second=True) if costs.theirs else _alone(costs)
    row["of_bare_physics"] = None
    if name in RECIPES:
        rate = bare_mj_step_rate(name, num_envs=num_envs, steps=max(20, 3200 // num_envs))
        row["of_bare_physics"] = round(rate.batch / rate.bare, 3)
    return row


def _alone(costs: Pairs) -> dict[str, Any]:
    """A row of what MO-Gymnasium does not have."""
    record = Pairs(costs.ours, costs.ours).record(per_second=True)
    unknown = ("theirs_per_cpu_second", "ratio", "ratio_lowest", "ratio_highest")
    return record | dict.fromkeys(unknown)


def _costs(name: str, num_envs: int, *, pairs: int, portion: float) -> Pairs:
    with quiet():
        ours = make_vec(name, num_envs)
        theirs = their_batch(name)
    try:
        work = _timed(ours, portion)
        if theirs is None:
            return Pairs(interleave(work, work, pairs=pairs).ours, ())
        return interleave(work, _timed(theirs, portion), pairs=pairs)
    finally:
        ours.close()
        if theirs is not None:
            theirs.close()
        gc.collect()


def their_batch(name: str) -> Batch | None:
    """MO-Gymnasium's batch, or None where the environment is not its own."""
    entry_point = str(gymnasium.spec(name).entry_point) if name in gymnasium.registry else ""
    if not entry_point.startswith("mo_gymnasium."):
        return None
    count = 1 if name in SLOW else THEIR_BATCH
    library: Any = mo_gymnasium  # typed, but exports nothing
    makers = [partial(library.make, name)] * count
    return cast(Batch, library.wrappers.vector.MOSyncVectorEnv(makers))


def _timed(batch: Batch, portion: float) -> Callable[[], float]:
    """CPU seconds of one environment step, measured over about `portion` seconds."""
    actions = sample_actions(
        cast("spaces.Discrete | spaces.Box", batch.single_action_space),
        RING,
        batch.num_envs,
        seed=0,
    )
    batch.reset(seed=0)
    steps = 1
    with quiet():
        play(batch, actions, 1)  # compiles, or allocates
        while (spent := cpu_cost(partial(play, batch, actions, steps))()) < portion / 4:
            steps *= 4
    steps = max(1, round(steps * portion / max(spent, 1e-9)))

    def measured() -> float:
        with quiet():
            return cpu_cost(partial(play, batch, actions, steps), units=steps * batch.num_envs)()

    return measured


def play(batch: Batch, actions: Any, steps: int) -> None:  # noqa: ANN401 - arrays of any type
    """Step a batch; the rows of actions are used over and over."""
    rows = list(actions)
    for step in range(steps):
        batch.step(rows[step % len(rows)])


@contextmanager
def quiet() -> Iterator[None]:
    """Third parties warn of versions and precision; nobody here can act upon it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def speed_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Steps a CPU-second of every environment on a logarithmic axis, the fastest on top.

    Args:
        rows: as `measure` gives them.
    """
    best: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        known = best.get(row["env"])
        if known is None or row["ours_per_cpu_second"] > known["ours_per_cpu_second"]:
            best[row["env"]] = row
    order = sorted(best.values(), key=lambda row: float(row["ours_per_cpu_second"]))
    figure = Figure(figsize=(8, 0.24 * len(order) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    for height, row in enumerate(order):
        ours, theirs = row["ours_per_cpu_second"], row["theirs_per_cpu_second"]
        if theirs is not None:
            axes.plot([theirs, ours], [height, height], color="#c8ccd2", zorder=1)
            axes.scatter([theirs], [height], color="#D55E00", s=22, zorder=2)
            text = f"{row['ratio']:,.3g} x"
        else:
            text = "ours alone"
        axes.scatter([ours], [height], color="#0072B2", s=22, zorder=2)
        axes.annotate(text, (ours, height), (6, -3), textcoords="offset points", fontsize=7)
    axes.set_yticks(range(len(order)), [row["env"] for row in order], fontsize=7)
    axes.set_xscale("log")
    axes.set_xlim(right=axes.get_xlim()[1] * 6)
    axes.set_xlabel("environment steps a CPU-second, one core")
    axes.scatter([], [], color="#0072B2", s=22, label="morl-suite, its best batch")
    axes.scatter([], [], color="#D55E00", s=22, label="MO-Gymnasium, MOSyncVectorEnv")
    axes.legend(loc="lower right", fontsize=8)
    axes.grid(axis="x", alpha=0.3)
    axes.set_ylim(-1, len(order))
    return figure


def main(
    *,
    names: Sequence[str] | None = None,
    pairs: int = 5,
    output: Path | None = None,
    plot: Path | None = None,
) -> dict[str, Any]:
    """Measure, print, and write ``environments.json`` and a picture.

    Args:
        names: ids; by default all that can be made here.
        pairs: interleaved measurements a row.
        output: folder of the record, None to write none.
        plot: file of the picture, None to draw none.
    """
    report = write_report(
        "environments",
        measure(names, pairs=pairs),
        command="morl bench envs",
        output=output,
    )
    print(f"\n{report['unit']}; theirs: {report['theirs']}")
    print(table(report["rows"]))
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        speed_figure(report["rows"]).savefig(plot, dpi=110)
        print(f"written: {plot}")
    return report
