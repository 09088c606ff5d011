"""Which code a run was begun by, in enough detail to say what has changed since."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from morl.registry import DISTRIBUTION
from morl.result import PACKAGES, distribution_version

_DECIDING = (
    "*.py",
    "envs/**/*.py",
    "agents/**/*.py",
    "experiments/run.py",
    "experiments/measures.py",
)
"""Source files that can change a result, relative to the package."""


def code_version() -> str:
    """Version of the suite, part of every run's hash."""
    return distribution_version(DISTRIBUTION) or "unknown"


def distribution_of(origin: str) -> str | None:
    """The distribution that a registry's origin names in brackets ("module:Name (here)")."""
    _, bracket, name = origin.removesuffix(")").rpartition(" (")
    return name if bracket else None


def fingerprint() -> dict[str, str]:
    """Hash of each source file, and version of each package, that can change a result."""
    root = Path(__file__).parents[1]
    files = sorted({path for pattern in _DECIDING for path in root.glob(pattern)})
    hashes = {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in files
    }
    return hashes | {name: distribution_version(name) or "missing" for name in PACKAGES}


def changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Names whose hash or version differs, sorted."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def peak_rss_mb() -> float | None:
    """Largest resident memory of this process so far in MB, where the system tells."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
