"""Every environment that can be made here keeps the contract of a batch."""

from __future__ import annotations

import pytest

from morl.registry import ENVS
from morl.testing import check_env

SLOW = ("mo-highway-v0", "mo-highway-fast-v0", "minecart-rgb-v0")
MISSING = {name: reason for name in ENVS if (reason := ENVS[name].available()) is not None}
AVAILABLE = [name for name in ENVS if name not in MISSING]


def test_nothing_built_in_is_broken():
    assert dict(ENVS.broken) == {}


@pytest.mark.parametrize("name", [name for name in AVAILABLE if name not in SLOW])
def test_environment_keeps_its_contract(name):
    check_env(name, steps=120).raise_for_failures()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in AVAILABLE if name in SLOW])
def test_slow_environment_keeps_its_contract(name):
    check_env(name, steps=4, num_envs=2).raise_for_failures()


def test_what_is_not_installed_says_what_to_install():
    assert "gym_super_mario_bros" in MISSING["mo-supermario-v0"]
    for name, reason in MISSING.items():
        assert name in reason
        assert "pip install" in reason
