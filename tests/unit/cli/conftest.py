"""A peer on a real Unix socket that replays prepared answers, and rows to answer with."""

from __future__ import annotations

import json
import os
import shutil
import socket
import tempfile
import threading
from typing import Any

import pytest

from helix.errors import HelixError
from helix.wire.methods import JOB_ROW, NODE_ROW, PARTITION_ROW

#: Job rows that are easy to tell apart; times are fixed, TZ is UTC in these tests.
JOB: dict[str, Any] = {
    **dict.fromkeys(JOB_ROW, ""),
    "job_id": 12,
    "display_id": "12",
    "array_job_id": 0,
    "array_task_id": None,
    "array_limit": 0,
    "name": "wrap",
    "user": "alice",
    "uid": 1000,
    "group": "staff",
    "gid": 50,
    "partition": "debug",
    "state": "RUNNING",
    "reason": "None",
    "priority": 4294901757,
    "nice": 0,
    "attempt": 0,
    "requeue": True,
    "t_submit": 1_800_000_000.0,
    "t_eligible": 1_800_000_000.0,
    "t_begin": 0.0,
    "t_deadline": 0.0,
    "t_start": 1_800_000_010.0,
    "t_expected": 0.0,
    "expected_range": [],
    "protected": False,
    "sched_nodes": "",
    "t_end": 1_800_003_610.0,
    "suspended_s": 0.0,
    "t_suspended": 0.0,
    "t_preempt": 0.0,
    "t_preemptable": 1_800_000_010.0,
    "time_limit_s": 3600,
    "time_min_s": 0,
    "elapsed_s": 61.0,
    "nodes_min": 1,
    "nodes_max": 1,
    "node_count": 1,
    "cpus": 2,
    "tasks": 1,
    "tasks_per_node": 0,
    "cpus_per_task": 2,
    "mem_per_node_mib": 2048,
    "mem_per_cpu_mib": 0,
    "mem_mib": 2048,
    "tmp_mib": 0,
    "cpus_min": 0,
    "sockets_per_node": 0,
    "cores_per_socket": 0,
    "threads_per_core": 0,
    "switches": 0,
    "exclusive": False,
    "oversubscribe": False,
    "contiguous": False,
    "nodes": "n1",
    "batch_host": "n1",
    "cores": {"n1": [0, 1]},
    "exit_code": "0:0",
    "derived_exit_code": "0:0",
    "work_dir": "/home/alice",
    "command": "/home/alice/job.sh",
    "stdout": "/home/alice/helix-12.out",
    "submit_host": "login1",
    "submit_line": "hsubmit job.sh",
    "user_s": 0.0,
    "system_s": 0.0,
    "max_rss_mib": 0.0,
    "story": [[1_800_000_010.0, "PENDING", "RUNNING", "started"]],
}
NODE: dict[str, Any] = {
    **dict.fromkeys(NODE_ROW, ""),
    "name": "n1",
    "addr": "10.0.0.1",
    "hostname": "n1",
    "state": "IDLE",
    "t_reason": 0.0,
    "cpus": 4,
    "cpus_alloc": 0,
    "cpu_load": 0.5,
    "boards": 1,
    "sockets": 1,
    "cores_per_socket": 4,
    "threads_per_core": 1,
    "memory_mib": 8000,
    "mem_alloc_mib": 0,
    "free_mem_mib": 7000,
    "tmp_mib": 0,
    "weight": 1,
    "features": [],
    "partitions": ["debug"],
    "arch": "x86_64",
    "os": "Linux",
    "kernel": "6.1.0",
    "version": "0.1.0",
    "t_boot": 1_800_000_000.0,
    "t_helixd_start": 1_800_000_000.0,
    "t_last_seen": 1_800_000_000.0,
    "skew_s": 0.0,
    "jobs": [],
}
PARTITION: dict[str, Any] = {
    **dict.fromkeys(PARTITION_ROW, 0),
    "name": "debug",
    "nodes": "n[1-4]",
    "is_default": True,
    "state": "UP",
    "default_time_s": None,
    "allow_groups": [],
    "allow_accounts": [],
    "deny_accounts": [],
    "allow_qos": [],
    "deny_qos": [],
    "oversubscribe": "NO",
    "preempt_mode": "OFF",
    "priority_tier": 1,
    "priority_job_factor": 1,
    "hidden": False,
    "total_nodes": 4,
    "total_cpus": 16,
    "total_memory_mib": 32000,
}


class Peer:
    """Answers each method with `answers[method]`: frames, an error, or a function of the arguments giving either."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers: dict[str, Any] = {}
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def args(self, method: str) -> dict[str, Any]:
        """Arguments of the last call of a method."""
        return next(args for name, args in reversed(self.calls) if name == method)

    def table(self, method: str, records: list[dict[str, Any]], all_columns: tuple[str, ...]) -> None:
        """Answer a listing: rows of the fields asked for."""

        def answer(args: dict[str, Any]) -> list[dict[str, Any]]:
            fields = args.get("fields") or [name for name in all_columns if name not in ("cores", "story")]
            return [{"columns": fields, "rows": [[r[f] for f in fields] for r in records], "cursor": "7.1"}]

        self.answers[method] = answer

    def jobs(self, *records: dict[str, Any]) -> None:
        """Answer job.list with these, over JOB."""
        self.table("job.list", [{**JOB, **record} for record in records], JOB_ROW)

    def nodes(self, *records: dict[str, Any]) -> None:
        self.table("node.list", [{**NODE, **record} for record in records], NODE_ROW)

    def partitions(self, *records: dict[str, Any]) -> None:
        self.table("partition.list", [{**PARTITION, **record} for record in records], PARTITION_ROW)

    def _accept(self) -> None:
        while True:
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, conn: socket.socket) -> None:
        with conn, conn.makefile("rb") as stream:
            try:
                while header := stream.read(4):
                    request = json.loads(stream.read(int.from_bytes(header, "little")))
                    self.calls.append((request["m"], request["a"]))
                    self._answer(conn, request)
            except OSError:  # the command gave up and went away
                return

    def _answer(self, conn: socket.socket, request: dict[str, Any]) -> None:
        answer = self.answers.get(request["m"], {})
        if callable(answer):
            answer = answer(request["a"])
        if isinstance(answer, HelixError):
            self._send(conn, {"i": request["i"], "ok": False, "e": answer.to_wire()})
            return
        frames = answer if isinstance(answer, list) else [answer]
        for at, frame in enumerate(frames):
            self._send(conn, {"i": request["i"], "ok": True, "r": frame, "more": at + 1 < len(frames)})

    @staticmethod
    def _send(conn: socket.socket, reply: dict[str, Any]) -> None:
        data = json.dumps(reply).encode()
        conn.sendall(len(data).to_bytes(4, "little") + data)


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A replaying peer; HELIX_SOCKET names it, and no option comes from the environment."""
    folder = tempfile.mkdtemp(prefix="hx")
    made = Peer(folder + "/s")
    for name in list(os.environ):
        if name.startswith(("HBATCH_", "SBATCH_", "HQUEUE_", "SQUEUE_", "HINFO_", "SINFO_", "HCANCEL_", "SCANCEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HELIX_SOCKET", made.path)
    monkeypatch.setenv("TZ", "UTC")
    yield made
    made.close()
    shutil.rmtree(folder)


@pytest.fixture
def job_row() -> dict[str, Any]:
    """A running job, all of JOB_ROW."""
    return dict(JOB)


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients give up at once when nobody answers."""
    from helix.client import Client

    monkeypatch.setattr(Client.__init__, "__kwdefaults__", {**Client.__init__.__kwdefaults__, "connect_s": 0.0})
