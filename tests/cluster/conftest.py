"""Real schedulers and databases on this machine: one node, loopback addresses, temporary folders.

Each fixture starts its servers and ends those alone. What is not installed is said and skipped.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from loopback import MORL, Server, end, free_ports, needs, needs_module, wait_until, which

from morl import storage

RESULTS = "MORL_CLUSTER_RESULTS"
"""Variable of the environment: a file for what the tests measured."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Start `morl` with words in a folder; what it says goes to files there."""
    begun: list[subprocess.Popen[bytes]] = []

    def go(
        *words: str, folder: Path = tmp_path, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        folder.mkdir(exist_ok=True)
        with (folder / "out.txt").open("ab") as out, (folder / "err.txt").open("ab") as err:
            process = subprocess.Popen(
                [*MORL, *words],
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        begun.append(process)
        return process

    yield go
    for process in begun:
        end(process)


@pytest.fixture(scope="session")
def noted() -> Iterator[dict[str, Any]]:
    """Where tests note what they measured; written to a file if one is asked for."""
    facts: dict[str, Any] = {}
    yield facts
    if RESULTS not in os.environ or not facts:
        return
    head = {
        "command": "make test-cluster",
        "machine": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        },
    }
    storage.write_json(Path(os.environ[RESULTS]), head | {"tests": facts})


# Servers


@pytest.fixture
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of an unprivileged user, on a Unix socket and a loopback port."""
    needs("initdb", "postgres", package="postgresql")
    needs_module("psycopg", "postgres")
    folder = Path(tempfile.mkdtemp(prefix="morl-pg-"))
    (port,) = free_ports(1)
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(folder, user)
    initdb, server = which("initdb"), which("postgres")
    data = folder / "data"
    subprocess.run(
        [str(initdb), "--pgdata", data, "--username=tuner", "--auth=trust", "--no-sync"],
        check=True, capture_output=True, user=user, cwd=folder,
    )  # fmt: skip
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [str(server), "-D", data, "-k", folder, "-h", "127.0.0.1", "-p", str(port),
             "-c", "max_connections=100"],
            stdout=log, stderr=log, user=user, cwd=folder, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(
            lambda: "ready to accept" in (folder / "log.txt").read_text(),
            seconds=300, what="PostgreSQL",
        )  # fmt: skip
        found = subprocess.run(
            [str(server), "--version"], check=True, capture_output=True, text=True
        ).stdout.strip()
        yield Server(
            address=f"postgresql://tuner@127.0.0.1:{port}/postgres",
            facts={"server": found, "driver": version("psycopg"), "optuna": version("optuna")},
        )
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm() -> Iterator[Server]:
    """A Slurm cluster of one node with four CPUs, without accounting."""
    needs("slurmctld", "slurmd", "srun", "munged", package="slurm-wlm munge")
    needs_module("hydra_plugins.hydra_submitit_launcher", "slurm")
    if os.geteuid() != 0:
        pytest.skip("a Slurm daemon that may start jobs has to be started by root")
    folder = Path(tempfile.mkdtemp(prefix="morl-slurm-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        environment = {"SLURM_CONF": str(_slurm_conf(folder))}
        for words in _slurm_daemons(folder):
            with (folder / f"{Path(words[0]).name}.txt").open("wb") as log:
                process = subprocess.Popen(
                    words, env={**os.environ, **environment}, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
            stack.callback(end, process)
            if words[0].endswith("munged"):
                wait_until((folder / "munge.socket").exists, seconds=120, what="munged")
        wait_until(
            lambda: "idle" in _slurm_says(["sinfo", "--noheader"], environment),
            seconds=300, what="an idle node",
        )  # fmt: skip
        found = _slurm_says(["sinfo", "--version"], environment).strip()
        yield Server(
            environment=environment,
            facts={
                "server": found,
                "launcher": version("hydra-submitit-launcher"),
                "submitit": version("submitit"),
            },
        )
        _slurm_says(["scancel", "--user=root"], environment)


def _slurm_conf(folder: Path) -> Path:
    host = platform.node().partition(".")[0]
    controller, node = free_ports(2)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    settings = {
        "ClusterName": "loopback",
        "SlurmctldHost": f"{host}(127.0.0.1)",
        "SlurmctldPort": controller,
        "SlurmdPort": node,
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder / 'munge.socket'}",
        "CredType": "cred/munge",
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "StateSaveLocation": folder / "state",
        "SlurmdSpoolDir": folder / "spool",
        "SlurmctldPidFile": folder / "slurmctld.pid",
        "SlurmdPidFile": folder / "slurmd.pid",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "MpiDefault": "none",
        "JobAcctGatherType": "jobacct_gather/none",
        "AccountingStorageType": "accounting_storage/none",
        "SlurmdParameters": "config_overrides",
        "ReturnToService": 2,
        "KillWait": 5,
    }
    lines = [f"{key}={value}" for key, value in settings.items()]
    lines.append(f"NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 State=UNKNOWN")
    lines.append("PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP")
    path = folder / "slurm.conf"
    path.write_text("\n".join(lines) + "\n")
    return path


def _slurm_daemons(folder: Path) -> Sequence[list[str]]:
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    folder.chmod(0o755)
    munged = [
        str(which("munged")), "--foreground", "--force", f"--key-file={key}",
        f"--socket={folder / 'munge.socket'}", f"--pid-file={folder / 'munged.pid'}",
        f"--log-file={folder / 'munged.log'}", f"--seed-file={folder / 'munged.seed'}",
    ]  # fmt: skip
    return [munged, [str(which("slurmctld")), "-D"], [str(which("slurmd")), "-D"]]


def _slurm_says(words: Sequence[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        words, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    return done.stdout


@pytest.fixture
def ray_cluster() -> Iterator[Server]:
    """A Ray cluster of two nodes with two CPUs each, on two loopback addresses."""
    needs_module("ray", "ray")
    needs_module("hydra_plugins.hydra_ray_launcher", "ray")
    program = Path(sys.executable).with_name("ray")
    # Ray's sockets have long names below this folder, and their length is limited.
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    (port,) = free_ports(1)
    head = f"127.0.0.2:{port}"
    common = ["--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
    nodes = (
        ["--head", f"--port={port}", "--node-ip-address=127.0.0.2", f"--temp-dir={folder}",
         "--include-dashboard=false"],
        [f"--address={head}", "--node-ip-address=127.0.0.3"],
    )  # fmt: skip
    environment = {"RAY_ADDRESS": head}
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for number, words in enumerate(nodes):
            _start_node(stack, [str(program), "start", *words, *common], folder / f"node-{number}")
        yield Server(
            environment=environment,
            facts={"ray": version("ray"), "launcher": version("hydra-ray-launcher"), "nodes": 2},
        )


def _start_node(stack: contextlib.ExitStack, words: Sequence[str], log: Path) -> None:
    """Start a node of Ray; on a busy machine it gives up after half a minute: once more, then."""
    for _ in range(5):
        with log.open("wb") as stream:
            process = subprocess.Popen(words, stdout=stream, stderr=stream, start_new_session=True)
        stack.callback(end, process)
        wait_until(
            lambda: "Ray runtime started" in log.read_text() or process.poll() is not None,  # noqa: B023 - called at once
            seconds=300, what=str(words),
        )  # fmt: skip
        if process.poll() is None:
            return
        end(process)
    raise AssertionError(f"a node of Ray does not start: {log.read_text()[-2000:]}")
