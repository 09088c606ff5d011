"""Trajectory balance of torchgfn on its own hypergrid, for another interpreter than ours.

``PYTHON incumbent_torchgfn.py '{"dimensions": 2, ...}'`` makes a sampler and says so in a line of
JSON. Then every line on standard input asks for some updates; the answer is a line of JSON with the
trajectories (as steps) and the CPU seconds spent. With ``"residuals": true`` the first line holds
trajectories, the parameters of their policy, and what torchgfn says of them.

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
from pathlib import Path
from typing import Any

PACKAGES = ("torchgfn", "torch", "numpy")


def _theirs(module: str) -> Any:  # noqa: ANN401 - untyped for us
    """A module of torchgfn."""
    return importlib.import_module(f"gfn.{module}")


class Trainer:
    """A policy on a grid, trained by trajectory balance at a learning rate of zero.

    Args:
        settings: dimensions, height, batch, mode ("kept" log-probabilities of sampling, or
            "vectorised" ones that are computed again in one pass), stop_bias.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch

        estimators, modules = _theirs("estimators"), _theirs("utils.modules")
        torch.manual_seed(settings["seed"])
        self._batch, self._kept = settings["batch"], settings["mode"] == "kept"
        dimensions, height = settings["dimensions"], settings["height"]
        self.env = _theirs("gym").HyperGrid(dimensions, height, validate_modes=False)
        preprocessor = _theirs("preprocessors").KHotPreprocessor(height=height, ndim=dimensions)
        self.module = modules.MLP(
            preprocessor.output_dim,
            self.env.n_actions,
            hidden_dim=64,
            n_hidden_layers=3,
            activation_fn="leaky_relu",
        )
        forward = estimators.DiscretePolicyEstimator(self.module, self.env.n_actions, preprocessor)
        backward = estimators.DiscretePolicyEstimator(
            modules.DiscreteUniform(self.env.n_actions - 1),
            self.env.n_actions,
            preprocessor,
            is_backward=True,
        )
        self.flow = _theirs("gflownet").TBGFlowNet(
            pf=forward, pb=backward, init_logZ=settings["log_z"]
        )
        self._sampler = _theirs("samplers").Sampler(estimator=forward)
        if settings["stop_bias"] is not None:
            self._freeze(settings["stop_bias"])
        self._optimiser = torch.optim.Adam(self.flow.parameters(), lr=0.0)

    def _freeze(self, stop_bias: float) -> None:
        """Lengths of trajectories shall not depend on the library: a policy without learning."""
        import torch

        last = [each for each in self.module.modules() if isinstance(each, torch.nn.Linear)][-1]
        with torch.no_grad():
            last.weight.zero_()
            last.bias.zero_()
            last.bias[-1] = stop_bias

    def sample(self, count: int) -> Any:  # noqa: ANN401 - a class of theirs
        """Their trajectories."""
        return self._sampler.sample_trajectories(
            self.env, n=count, save_logprobs=self._kept, save_estimator_outputs=False
        )

    def update(self) -> int:
        """Sample, take the loss and its gradient, step; returns the number of trajectories."""
        import torch

        with contextlib.nullcontext() if self._kept else torch.no_grad():
            found = self.sample(self._batch)
        self._optimiser.zero_grad()
        loss = self.flow.loss(self.env, found, recalculate_all_logprobs=not self._kept)
        loss.backward()
        self._optimiser.step()
        return int(self._batch)

    def residuals(self, count: int) -> dict[str, Any]:
        """Trajectories, parameters and ``log Z + sum log P_F - sum log P_B`` of each."""
        import torch

        with torch.no_grad():
            found = self.sample(count)
            scores = self.flow.get_scores(found, log_rewards=torch.zeros(count))
            implied = scores + self.flow.logZ
        actions = found.actions.tensor[..., 0].T.tolist()
        lengths = found.terminating_idx.tolist()
        linear = [each for each in self.module.modules() if isinstance(each, torch.nn.Linear)]
        return {
            "actions": [row[:length] for row, length in zip(actions, lengths, strict=True)],
            "implied": implied.tolist(),
            "log_z": float(self.flow.logZ.detach()),
            "weights": [each.weight.T.tolist() for each in linear],
            "biases": [each.bias.tolist() for each in linear],
        }


def main(settings: dict[str, Any]) -> None:
    """Answer line by line until there is no more input."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    # A module beside this script has the name of one of the standard library.
    here = Path(__file__).resolve().parent
    sys.path = [entry for entry in sys.path if Path(entry).resolve() != here]
    with contextlib.redirect_stdout(sys.stderr):
        import torch

        torch.set_num_threads(1)
        trainer = Trainer(settings)
        ready: dict[str, Any] = {"packages": {name: version(name) for name in PACKAGES}}
        if settings["residuals"]:
            ready |= trainer.residuals(settings["batch"])
        answers.write(json.dumps(ready) + "\n")
        for _ in sys.stdin:
            start = time.process_time()
            count = sum(trainer.update() for _ in range(settings["updates"]))
            spent = time.process_time() - start
            answers.write(json.dumps({"steps": count, "cpu_s": spent}) + "\n")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
