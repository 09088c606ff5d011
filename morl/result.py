"""What one run leaves behind: the only thing that reports and leaderboards read.

``result.json`` holds the record, ``front.npz`` the front and ``episodes.npz`` every episode
return behind it, so that each number can be computed again. No array comes from a pickle.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import platform
import re
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from morl import storage
from morl.types import Front, MorlError, Vector

SCHEMA = "morl-result/1"

RESULT_FILE, FRONT_FILE, EPISODES_FILE = "result.json", "front.npz", "episodes.npz"

LARGEST_FILE = 4 * 2**30
"""Bytes that the arrays of one file may claim; more is taken for an attack."""

PACKAGES = (
    "morl-suite", "numpy", "scipy", "gymnasium", "mo-gymnasium", "mujoco", "numba", "torch",
    "moocore", "pygmo", "stable-baselines3", "hydra-core",
)  # fmt: skip
"""Distributions whose version is recorded where they are installed."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_CODE = ("morl", "envs", "agents", "hpo", "experiments", "conf", "pyproject.toml")
_AGREEMENT = 1e-9  # between a stored mean and the mean of the stored episodes, relative
_STATUS = re.compile(r"completed|stopped|failed: .+", re.DOTALL)

RecordT = TypeVar("RecordT")


class ResultError(MorlError):
    """A result that is damaged, altered, incomplete or of a newer schema."""


@dataclass(frozen=True, kw_only=True)
class AlgoRecord:
    """The agent.

    Attributes:
        name: registered name.
        version: of the distribution it comes from.
        entry_point: where it comes from ("morl.agents.c_morl:CMorl (morl-suite)").
    """

    name: str
    version: str
    entry_point: str


@dataclass(frozen=True, kw_only=True)
class EnvRecord:
    """The environment.

    Attributes:
        id: registered id.
        package: distribution that implements its dynamics.
        version: of that distribution.
        kwargs: constructor arguments.
        wrappers: what stood between it and the agent.
        max_steps: step limit of an episode, or None.
        obs_hash: SHA-256 over the observations of a fixed episode, or None.
    """

    id: str
    package: str
    version: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[str, ...] = ()
    max_steps: int | None = None
    obs_hash: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProtocolRecord:
    """How solutions were measured; rows of different protocols never share a table.

    Attributes:
        id: the protocol's identifier.
        discount: of the returns that count.
        reference_point: of the hypervolume, one coordinate an objective.
        objectives: names of the objectives, in order.
        box_low: lower corner of the normalisation box, or None.
        box_high: upper corner, or None.
        preferences_sha256: of the preference set behind the expected utility, or None.
        num_preferences: its size.
        selection_episodes: episodes a candidate.
        report_episodes: episodes a solution.
        policy_mode: how the policies acted.
        selection_stream: name of the seed stream by which the front was chosen.
        report_stream: name of the seed stream by which it was judged; another one.
        solution_concept: what the front is a set of.
    """

    id: str
    discount: float
    reference_point: tuple[float, ...]
    objectives: tuple[str, ...]
    box_low: tuple[float, ...] | None = None
    box_high: tuple[float, ...] | None = None
    preferences_sha256: str | None = None
    num_preferences: int = 0
    selection_episodes: int
    report_episodes: int
    policy_mode: Literal["deterministic", "stochastic", "mixed"] = "deterministic"
    selection_stream: str = "selection"
    report_stream: str = "report"
    solution_concept: Literal["PF", "CCS", "ESR"] = "PF"

    def __post_init__(self) -> None:
        """Refuse what would not be a fair measurement.

        Raises:
            ResultError: names the field.
        """
        if self.selection_stream == self.report_stream:
            raise ResultError(
                f"protocol: a front chosen and judged by one stream ({self.report_stream!r}) is "
                "biased upwards; use two"
            )
        for name in ("reference_point", "box_low", "box_high"):
            point = getattr(self, name)
            if point is not None and len(point) != len(self.objectives):
                raise ResultError(
                    f"protocol.{name} has {len(point)} coordinates for "
                    f"{len(self.objectives)} objectives"
                )


@dataclass(frozen=True, kw_only=True)
class BudgetRecord:
    """What the run cost.

    Attributes:
        env_steps: true environment steps of the training.
        eval_env_steps: environment steps of the evaluations by the runner.
        updates: gradient updates, or None where that means nothing.
        wall_s: wall-clock seconds, all sittings together.
        cpu_s: CPU seconds.
        gpu_s: accelerator seconds, or None.
        peak_rss_mb: peak resident memory in MB, or None.
        objective_evaluations: objects that training had evaluated, repeated ones included, or
            None where episodes build no objects.
    """

    env_steps: int
    eval_env_steps: int
    wall_s: float
    cpu_s: float
    updates: int | None = None
    gpu_s: float | None = None
    peak_rss_mb: float | None = None
    objective_evaluations: int | None = None


@dataclass(frozen=True, kw_only=True)
class FrontRecord:
    """The front in three numbers.

    Attributes:
        num_candidates: solutions that the agent offered.
        num_unique: distinct points among those that were chosen.
        num_outside: points that do not dominate the reference point and count for nothing.
    """

    num_candidates: int
    num_unique: int
    num_outside: int


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One indicator.

    Attributes:
        value: its value.
        standard_error: of the value over evaluation episodes, or None.
        method: how it was computed ("moocore", "delete-one-episode jackknife").
    """

    value: float
    standard_error: float | None = None
    method: str = ""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the numbers were made; see `collect_provenance`.

    Attributes:
        git_sha: commit of the source checkout, or None outside of one.
        git_dirty: whether its code differs from that commit, or None.
        code_sha256: of the source files that can change a result, or None if not taken.
        config_sha256: of the configuration.
        lockfile_sha256: of the checkout's lock file, or None.
        packages: version by distribution.
        python: version and implementation.
        os: operating system.
        cpu: model of the processor.
        gpu: model of the accelerator in use, or None.
        blas: library behind NumPy, or None.
        threads: thread counts by library or variable.
        deterministic: whether torch was told to be deterministic, or None without torch.
    """

    config_sha256: str
    packages: Mapping[str, str]
    python: str
    os: str
    cpu: str
    git_sha: str | None = None
    git_dirty: bool | None = None
    code_sha256: str | None = None
    lockfile_sha256: str | None = None
    gpu: str | None = None
    blas: str | None = None
    threads: Mapping[str, int] = field(default_factory=dict)
    deterministic: bool | None = None


@dataclass(frozen=True, kw_only=True)
class PoliciesRecord:
    """The stored policies.

    Attributes:
        artifact: file beside the record.
        sha256: of that file.
        format: how to read it.
    """

    artifact: str
    sha256: str
    format: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ResultArrays:
    """Every episode return behind a front.

    Attributes:
        chosen: indices of the candidates that make up the front, shape (solution,).
        selection_discounted: shape (candidate, episode, objective).
        selection_undiscounted: same shape.
        selection_lengths: steps, shape (candidate, episode).
        report_discounted: shape (solution, episode, objective).
        report_undiscounted: same shape.
        report_lengths: steps, shape (solution, episode).
        preferences: shape (solution, objective); zeros where there is none.
        has_preference: shape (solution,).
    """

    chosen: NDArray[np.integer[Any]]
    selection_discounted: NDArray[np.float64]
    selection_undiscounted: NDArray[np.float64]
    selection_lengths: NDArray[np.integer[Any]]
    report_discounted: NDArray[np.float64]
    report_undiscounted: NDArray[np.float64]
    report_lengths: NDArray[np.integer[Any]]
    preferences: NDArray[np.float64]
    has_preference: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse arrays that do not fit together.

        Raises:
            ResultError: names the array.
        """
        for name, kinds in _KINDS.items():
            if getattr(self, name).dtype.kind not in kinds:
                raise ResultError(f"{name} has the type {getattr(self, name).dtype}")
        for stream in ("selection", "report"):
            discounted = getattr(self, f"{stream}_discounted")
            if discounted.ndim != 3:
                raise ResultError(
                    f"{stream}_discounted must be (solution, episode, objective), has shape "
                    f"{discounted.shape}"
                )
            _require_shape(self, f"{stream}_undiscounted", discounted.shape)
            _require_shape(self, f"{stream}_lengths", discounted.shape[:2])
        solutions, episodes, objectives = self.report_discounted.shape
        _require_shape(self, "chosen", (solutions,))
        _require_shape(self, "preferences", (solutions, objectives))
        _require_shape(self, "has_preference", (solutions,))
        candidates, _, selection_objectives = self.selection_discounted.shape
        if selection_objectives != objectives:
            raise ResultError(f"selection has {selection_objectives} objectives, not {objectives}")
        if solutions and episodes == 0:
            raise ResultError("report_discounted has solutions without episodes")
        if solutions and not (self.chosen.min() >= 0 and self.chosen.max() < candidates):
            raise ResultError(f"chosen names candidates outside of the {candidates} there are")
        for name, kinds in _KINDS.items():
            if kinds == "f" and not np.isfinite(getattr(self, name)).all():
                raise ResultError(f"{name} is not finite everywhere")

    @classmethod
    def empty(cls, num_objectives: int) -> ResultArrays:
        """The arrays of a run that found nothing."""
        nothing = np.zeros((0, 0, num_objectives))
        lengths = np.zeros((0, 0), np.int64)
        return cls(
            chosen=np.zeros(0, np.int64),
            selection_discounted=nothing,
            selection_undiscounted=nothing,
            selection_lengths=lengths,
            report_discounted=nothing,
            report_undiscounted=nothing,
            report_lengths=lengths,
            preferences=np.zeros((0, num_objectives)),
            has_preference=np.zeros(0, np.bool_),
        )

    @property
    def returns(self) -> Front:
        """Mean discounted report returns: the front as it counts, shape (solution, objective)."""
        episodes = max(self.report_discounted.shape[1], 1)
        returns: Front = self.report_discounted.sum(axis=1) / episodes
        return returns

    def __eq__(self, other: object) -> bool:
        """Whether all arrays are equal, bit for bit but for signed zeros."""
        if not isinstance(other, ResultArrays):
            return NotImplemented
        return all(
            getattr(self, name).dtype == getattr(other, name).dtype
            and np.array_equal(getattr(self, name), getattr(other, name))
            for name in _KINDS
        )

    __hash__ = None  # type: ignore[assignment]  # arrays can change


_KINDS = {
    "chosen": "iu",
    "selection_discounted": "f",
    "selection_undiscounted": "f",
    "selection_lengths": "iu",
    "report_discounted": "f",
    "report_undiscounted": "f",
    "report_lengths": "iu",
    "preferences": "f",
    "has_preference": "b",
}
_FRONT_ARRAYS = ("chosen", "preferences", "has_preference")


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Outcome of one run of one agent on one environment with one seed.

    Attributes:
        algo: the agent.
        env: the environment.
        protocol: how its solutions were measured.
        seed: root of all random streams of the run.
        config: the settings that decide the run, JSON only; nothing that may differ between
            equal runs, such as an output folder.
        budget: what it cost.
        front: the front in numbers.
        metrics: indicators by name.
        curve: columns of the learning curve by name, equally long; "steps" is one of them.
        provenance: where it was made.
        arrays: every episode return.
        policies: the stored policies, or None.
        status: "completed", "stopped" or "failed: " and a reason. Failures stay in the table.
        verification: who vouches for the numbers.
    """

    algo: AlgoRecord
    env: EnvRecord
    protocol: ProtocolRecord
    seed: int
    config: Mapping[str, Any]
    budget: BudgetRecord
    front: FrontRecord
    metrics: Mapping[str, Metric]
    curve: Mapping[str, tuple[float, ...]]
    provenance: Provenance
    arrays: ResultArrays
    policies: PoliciesRecord | None = None
    status: str = "completed"
    verification: Literal["self-reported", "recomputed", "re-run", "published"] = "self-reported"

    def __post_init__(self) -> None:
        """Refuse a record that contradicts itself or could not be read back.

        Raises:
            ResultError: names the field.
            NonFiniteError: names the field that is not a finite number.
        """
        plain = storage.parse_json(storage.json_bytes(self._plain()))
        for name, value in _decode_fields(RunResult, plain, "", arrays=self.arrays).items():
            object.__setattr__(self, name, value)  # 1 where a float is due becomes 1.0
        if _STATUS.fullmatch(self.status) is None:
            raise ResultError(
                f"status {self.status!r}: must be 'completed', 'stopped' or 'failed: reason'"
            )
        lengths = {len(column) for column in self.curve.values()}
        if len(lengths) > 1 or (self.curve and "steps" not in self.curve):
            raise ResultError("curve: needs columns of one length, 'steps' among them")
        objectives = self.arrays.report_discounted.shape[2]
        if objectives != len(self.protocol.objectives):
            raise ResultError(
                f"{len(self.protocol.objectives)} objectives in the protocol, {objectives} in the "
                "returns"
            )

    @property
    def returns(self) -> Front:
        """The front: mean discounted report returns, shape (solution, objective)."""
        return self.arrays.returns

    @property
    def run_id(self) -> str:
        """SHA-256 of what identifies the run: everything that was decided before it began."""
        identity = {
            "schema": SCHEMA,
            **{name: _record(getattr(self, name)) for name in ("algo", "env", "protocol")},
            "seed": self.seed,
            "config": self.config,
        }
        return hashlib.sha256(storage.json_bytes(identity)).hexdigest()

    def save(self, folder: Path) -> Path:
        """Write ``result.json``, ``front.npz`` and ``episodes.npz``.

        All three are on the disk before the first takes the place of an older one.

        Args:
            folder: made if missing.

        Returns:
            Path of ``result.json``.

        Raises:
            NonFiniteError: names the field that is not a finite number.
            StorageError: names the path, the bytes needed and the remedy.
        """
        front = {name: getattr(self.arrays, name) for name in _FRONT_ARRAYS}
        episodes = {name: getattr(self.arrays, name) for name in _KINDS if name not in front}
        front_data = storage.array_bytes({**front, "returns": self.returns})
        episodes_data = storage.array_bytes(episodes)
        record = self._json(front_data, episodes_data)
        storage.make_folder(folder)
        path = folder / RESULT_FILE
        storage.atomic_write_all(
            {
                folder / FRONT_FILE: front_data,
                folder / EPISODES_FILE: episodes_data,
                path: storage.json_bytes(record, indent=1) + b"\n",
            }
        )
        return path

    @classmethod
    def load(cls, path: Path) -> RunResult:
        """Read a result and verify that nothing in it was altered.

        Args:
            path: ``result.json``, or the folder that holds it.

        Raises:
            ResultError: names the file and what is wrong with it.
            StorageError: if a file is missing or unreadable.
        """
        file = path / RESULT_FILE if path.is_dir() else path
        record = storage.read_json(file)
        _refuse_schema(file, record)
        try:
            fields = dict(record)
            del fields["schema"]
            run_id = fields.pop("run_id")
            front = dict(fields["front"])
            arrays = _load_arrays(file.parent, front)
            fields["front"] = front
            decoded = _decode_fields(cls, fields, "", arrays=arrays)
            result = cls(**decoded)
        except (KeyError, TypeError, ValueError, ResultError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ResultError(f"{file}: {reason}") from error
        if result.run_id != run_id:
            raise ResultError(
                f"{file}: run_id does not fit the record: algo, env, protocol, seed or config was "
                "altered"
            )
        return result

    def _plain(self) -> dict[str, Any]:
        return {
            item.name: _record(getattr(self, item.name))
            for item in dataclasses.fields(self)
            if item.name != "arrays"
        }

    def _json(self, front_data: bytes, episodes_data: bytes) -> dict[str, Any]:
        record = self._plain()
        record["schema"] = SCHEMA
        record["run_id"] = self.run_id
        record["front"].update(
            returns=FRONT_FILE,
            sha256=hashlib.sha256(front_data).hexdigest(),
            episodes=EPISODES_FILE,
            episodes_sha256=hashlib.sha256(episodes_data).hexdigest(),
        )
        return record


def stacked_preferences(
    preferences: Sequence[Vector | None], num_objectives: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Preferences of solutions as `ResultArrays` keeps them.

    Returns:
        Shape (solution, objective), zeros where there is none; shape (solution,), whether there
        is one.
    """
    stacked = np.zeros((len(preferences), num_objectives))
    present = np.array([preference is not None for preference in preferences], dtype=np.bool_)
    for row, preference in enumerate(preferences):
        if preference is not None:
            stacked[row] = preference
    return stacked, present


def collect_provenance(config: Mapping[str, Any]) -> Provenance:
    """Describe where a run takes place; imports nothing and takes milliseconds.

    Thread counts and the accelerator are those of torch if it is loaded already.

    Args:
        config: the run's configuration, JSON only.
    """
    root = Path(__file__).parent.parent
    checkout = root if (root / ".git").exists() else None
    lock_file = root / "requirements.lock"
    torch = sys.modules.get("torch")
    return Provenance(
        git_sha=_git(checkout, "rev-parse", "HEAD"),
        git_dirty=_is_dirty(checkout),
        config_sha256=hashlib.sha256(storage.json_bytes(config)).hexdigest(),
        lockfile_sha256=storage.sha256_file(lock_file) if lock_file.is_file() else None,
        packages=_versions(),
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        os=platform.platform(),
        cpu=_cpu_model(),
        gpu=_gpu_model(torch),
        blas=_blas(),
        threads=_threads(torch),
        deterministic=None if torch is None else torch.are_deterministic_algorithms_enabled(),
    )


def _require_shape(arrays: ResultArrays, name: str, shape: tuple[int, ...]) -> None:
    found = getattr(arrays, name).shape
    if found != shape:
        raise ResultError(f"{name} has shape {found}, not {shape}")


def _record(value: Any) -> Any:  # noqa: ANN401 - JSON
    """A record as nested dicts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _record(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: _record(item) for key, item in value.items()}
    return value


def _refuse_schema(file: Path, record: object) -> None:
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema == SCHEMA:
        return
    name, _, version = str(schema).partition("/")
    ours, _, our_version = SCHEMA.partition("/")
    if name == ours and version.isdecimal() and int(version) > int(our_version):
        raise ResultError(
            f"{file} has schema {schema}, this version of morl-suite reads up to {SCHEMA}: "
            "install a newer one"
        )
    raise ResultError(f"{file} is no result of a run: its schema is {schema!r}, not {SCHEMA!r}")


def _load_arrays(folder: Path, front: dict[str, Any]) -> ResultArrays:
    """Read and verify the arrays that a record names; takes those names out of it."""
    loaded = _verified(folder, front.pop("returns"), front.pop("sha256"))
    loaded |= _verified(folder, front.pop("episodes"), front.pop("episodes_sha256"))
    returns = loaded.pop("returns")
    unknown = sorted(set(loaded) - set(_KINDS))
    if unknown:
        raise ResultError(f"unknown arrays: {', '.join(unknown)}")
    arrays = ResultArrays(**loaded)
    if returns.shape != arrays.returns.shape or not np.allclose(
        returns, arrays.returns, rtol=_AGREEMENT, atol=_AGREEMENT
    ):
        raise ResultError(f"the returns of {FRONT_FILE} are not the means of {EPISODES_FILE}")
    return arrays


def _verified(folder: Path, name: str, sha256: str) -> dict[str, NDArray[Any]]:
    if Path(name).name != name:
        raise ResultError(f"{name!r} is not a file beside the record")
    if storage.sha256_file(folder / name) != sha256:
        raise ResultError(f"{name} is damaged or was altered (its SHA-256 differs)")
    return storage.read_arrays(folder / name, max_bytes=LARGEST_FILE)


def _decode_fields(
    record_type: type[Any],
    value: Any,  # noqa: ANN401 - JSON
    where: str,
    **given: Any,  # noqa: ANN401 - fields that do not come from JSON
) -> dict[str, Any]:
    """Check the fields of a record against the types of its dataclass."""
    if not isinstance(value, dict):
        raise ResultError(f"{where or 'the record'} is {value!r}, not an object")
    hints = get_type_hints(record_type)
    known = {item.name: item for item in dataclasses.fields(record_type) if item.name not in given}
    prefix = f"{where}." if where else ""
    for name in value:
        if name not in known:
            raise ResultError(f"{prefix}{name} is not a field of {SCHEMA}")
    for name, item in known.items():
        required = item.default is item.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise ResultError(f"{prefix}{name} is missing")
    decoded = {name: _decode(hints[name], value[name], prefix + name) for name in value}
    return decoded | given


def _decode(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - JSON
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return hint(**_decode_fields(hint, value, where))
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _decode(inner, value, where)
    if origin is Literal:
        if value not in arguments:
            raise ResultError(f"{where} is {value!r}, not one of {', '.join(arguments)}")
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(_decode(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _decode(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    return _decode_scalar(hint, value, where)


def _decode_scalar(hint: Any, value: Any, where: str) -> Any:  # noqa: ANN401 - JSON
    if hint is float and type(value) in (int, float):
        return float(value)
    if type(value) is not hint:
        name = getattr(get_origin(hint) or hint, "__name__", hint)
        raise ResultError(f"{where} is {value!r}, not of the type {name}")
    return value


def _git(checkout: Path | None, *arguments: str) -> str | None:
    if checkout is None:
        return None
    # Inside a hook these would point to another repository.
    environment = {key: item for key, item in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(checkout), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _is_dirty(checkout: Path | None) -> bool | None:
    changes = _git(checkout, "status", "--porcelain", "--", *_CODE)
    return None if changes is None else changes != ""


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        version = distribution_version(name)
        if version is not None:
            versions[name] = version
    return versions


def distribution_version(name: str) -> str | None:
    """Version of an installed distribution, or None; imports nothing."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _gpu_model(torch: Any) -> str | None:  # noqa: ANN401 - a module that may be absent
    if torch is None or not torch.cuda.is_initialized():
        return None
    return str(torch.cuda.get_device_name())


def _blas() -> str | None:
    config: Any = np.show_config(mode="dicts")
    blas = (config or {}).get("Build Dependencies", {}).get("blas", {})
    return f"{blas['name']} {blas.get('version', '')}".strip() if "name" in blas else None


def _threads(torch: Any) -> dict[str, int]:  # noqa: ANN401 - a module that may be absent
    threads = {
        name: int(os.environ[name])
        for name in THREAD_VARIABLES
        if os.environ.get(name, "").isdecimal()
    }
    if torch is not None:
        threads["torch"] = torch.get_num_threads()
    return threads
