"""Training of morl-baselines' PGMORL population, for another interpreter than ours.

``PYTHON incumbent_moppo.py '{"env_id": ..., ...}'`` makes the six MOPPO learners of a PGMORL and
says so in a line of JSON. Then every line on standard input asks for one round: each learner
collects and updates once, as in a generation of PGMORL, without its evaluations and without logs.
The answer is a line of JSON with the environment steps taken and the CPU seconds spent.

Nothing of the suite is imported here.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from importlib.metadata import version
from typing import Any

PACKAGES = ("morl-baselines", "mo-gymnasium", "gymnasium", "mujoco", "numpy", "torch")


def make_learners(settings: dict[str, Any]) -> list[Any]:
    """The population of a PGMORL, as its constructor makes it."""
    import numpy as np

    module = importlib.import_module("morl_baselines.multi_policy.pgmorl.pgmorl")
    steps = settings["rollout_steps"] * settings["num_envs"]
    pgmorl = module.PGMORL(
        env_id=settings["env_id"],
        origin=np.full(settings["objectives"], -100.0),
        num_envs=settings["num_envs"],
        pop_size=settings["policies"],
        steps_per_iteration=settings["rollout_steps"],
        num_minibatches=steps // settings["minibatch"],
        update_epochs=settings["epochs"],
        gamma=settings["discount"],
        seed=settings["seed"],
        device="cpu",
        log=False,
    )
    learners: list[Any] = pgmorl.agents
    return learners


def one_round(learners: list[Any]) -> dict[str, float]:
    """Let every learner collect and update once."""
    before = sum(learner.global_step for learner in learners)
    start = time.process_time()
    for learner in learners:
        learner.train(time.time(), 1, 1)
    spent = time.process_time() - start
    return {"steps": sum(learner.global_step for learner in learners) - before, "cpu_s": spent}


def main(settings: dict[str, Any]) -> None:
    """Answer line by line until there is no more input."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    with contextlib.redirect_stdout(sys.stderr):  # the library prints as it goes
        import torch

        torch.set_num_threads(1)
        learners = make_learners(settings)
        ready = {"packages": {name: version(name) for name in PACKAGES}}
        answers.write(json.dumps(ready) + "\n")
        for _ in sys.stdin:
            answers.write(json.dumps(one_round(learners)) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
