"""What agents declare that they can act in, and who reads it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from morl.capabilities import Capabilities
from morl.envs import make_task
from morl.experiments import cli
from morl.registry import AGENTS, agents_for, require_support
from morl.types import UnsupportedTaskError

DISCRETE = make_task("deep-sea-treasure-v0", horizon=20)
CONTINUOUS = make_task("water-reservoir-v0", horizon=15)
OBJECTS = make_task("hypergrid-v0", kwargs={"height": 6, "objectives": ["branin", "shubert"]})


def test_every_agent_of_the_suite_declares_what_it_can_act_in() -> None:
    silent = [
        name
        for name, entry in AGENTS.items()
        if entry.capabilities is None and "morl-suite" in entry.origin
    ]
    assert silent == []


@pytest.mark.parametrize("name", [name for name in AGENTS if AGENTS[name].capabilities])
def test_smoke_settings_are_settings(name: str) -> None:
    entry = AGENTS[name]
    assert entry.capabilities is not None
    replace(entry.config(), **entry.capabilities.smoke)


@pytest.mark.parametrize(
    ("capabilities", "task", "words"),
    [
        (Capabilities(), DISCRETE, None),
        (Capabilities(), CONTINUOUS, None),
        (Capabilities(actions=("box",)), DISCRETE, "knows continuous actions"),
        (Capabilities(actions=("discrete",)), CONTINUOUS, "knows discrete actions, not Box"),
        (Capabilities(objects=True), DISCRETE, "build objects"),
        (Capabilities(objects=True), OBJECTS, None),
        (Capabilities(min_objectives=3), DISCRETE, "at least 3 objectives, not 2"),
        (Capabilities(max_objectives=1), DISCRETE, "at most 1 objectives, not 2"),
        (Capabilities(environments=("building-*",)), DISCRETE, "building-"),
        (Capabilities(environments=("deep-sea-*",)), DISCRETE, None),
    ],
)
def test_a_task_is_refused_for_a_reason(
    capabilities: Capabilities, task: object, words: str | None
) -> None:
    reason = capabilities.refusal(task)  # type: ignore[arg-type]
    assert (reason is None) if words is None else (words in (reason or ""))


@pytest.mark.parametrize(
    "declaration",
    [{"actions": ("dict",)}, {"actions": ()}, {"min_objectives": 0}, {"max_objectives": 0}],
)
def test_a_declaration_that_nothing_fits_is_refused(declaration: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Capabilities(**declaration)  # type: ignore[arg-type]


def test_a_refusal_names_environment_agent_reason_and_agents_that_fit() -> None:
    with pytest.raises(UnsupportedTaskError) as refusal:
        require_support("gmorl", CONTINUOUS)
    text = str(refusal.value)
    assert text.startswith("water-reservoir-v0: agent gmorl cannot act here: it knows discrete")
    assert "c_morl" in text.partition("Agents that can: ")[2]
    assert "envelope_q" not in text.partition("Agents that can: ")[2]


def test_an_agent_that_declares_nothing_is_tried() -> None:
    silent = replace(AGENTS["gmorl"], capabilities=None)
    assert silent.supports(CONTINUOUS) is None


def test_agents_of_objects_fit_objects_alone() -> None:
    assert "nsga2" in agents_for(OBJECTS)
    assert "nsga2" not in agents_for(DISCRETE)


def test_the_command_line_lists_agents_that_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "agents", "env=water-reservoir-v0"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert "c_morl" in listed
    assert not {"gmorl", "nsga2", "building_controller"} & set(listed)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["list", "agents", "minecart-v0"], "takes env=ID, got 'minecart-v0'"),
        (["list", "envs", "env=minecart-v0"], "only agents do"),
        (["list", "agents", "env=minecrat-v0"], "did you mean"),
    ],
)
def test_a_wrong_word_is_told(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) != 0
    assert complaint in capsys.readouterr().err


def test_help_shows_the_bounds_of_settings() -> None:
    text = "\n".join(cli._agents_help(["agent=random_search"]))
    assert "[1, inf)" in text
