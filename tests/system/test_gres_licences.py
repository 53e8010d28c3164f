"""GPUs by number, licences and switches with real daemons: what jobs see, why they wait, what commands show."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.cluster_jobs import blocker, finish, run_job, submit, wait_reason, wait_state, wait_text

from helix.cluster.fixture import TestCluster

CONF = """
DefMemPerCPU=10
GresTypes=gpu,nvme
Licenses=matlab:2,ansys
TopologyPlugin=topology/tree
"""
SWITCHES = "SwitchName=s1 Nodes=n[1-2]\nSwitchName=s2 Nodes=n[3-4]\nSwitchName=top Switches=s[1-2]\n"
NULL = ("-o", "/dev/null")


@pytest.fixture(scope="module")
def rack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestCluster]:
    """Four nodes below two switches; n1 has four GPUs, which a reconfiguration added."""
    with TestCluster(tmp_path_factory.mktemp("rack") / "c", nodes=4, cpus=4, memory_mib=1024) as it:
        conf = it.cluster.layout.conf
        (conf.parent / "topology.conf").write_text(SWITCHES)
        (conf.parent / "gres.conf").write_text("NodeName=n1 Name=gpu Type=a100 File=/dev/nvidia[0-3]\n")
        nodes = "NodeName=n[1-4]"
        conf.write_text(conf.read_text().replace(nodes, f"NodeName=DEFAULT Gres=gpu:4,nvme:1\n{nodes}") + CONF)
        it.run("hctl", "reconfigure")
        yield it


@pytest.fixture
def work(rack: TestCluster, request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty directory; at the end no job is left."""
    path = rack.dir / "work" / request.node.name
    path.mkdir(parents=True)
    yield path
    with rack.client() as client:
        ids = [job["display_id"].split("_")[0] for job in client.queue(fields=["display_id"])]
        if ids:
            client.cancel(sorted(set(ids)))
            rack.wait_for(lambda: not client.queue(fields=["display_id"]), "the queue is empty")


def seen(cluster: TestCluster, path: Path) -> dict[str, str]:
    """The variables a job printed."""
    return dict(line.split("=", 1) for line in wait_text(cluster, path, "done=").splitlines())


NAMES = "SLURM_JOB_GPUS|SLURM_GPUS_ON_NODE|CUDA_VISIBLE_DEVICES|SLURM_TOPOLOGY_ADDR"
PRINT = f"env | grep -E '^({NAMES})=' > {{0}}; echo done= >> {{0}}"


def test_jobs_share_gpus_by_number_and_one_waits(rack: TestCluster, work: Path) -> None:
    go = work / "go"
    options = ("-w", "n1", "--gres=gpu:a100:2", "-t1", *NULL)
    jobs = [submit(rack, work, f"{PRINT.format(work / name)}; {blocker(go)}", *options) for name in ("a", "b")]
    found = [seen(rack, work / name) for name in ("a", "b")]
    assert sorted(one["SLURM_JOB_GPUS"] for one in found) == ["0,1", "2,3"]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in found] == [one["SLURM_JOB_GPUS"] for one in found]
    assert {one["SLURM_GPUS_ON_NODE"] for one in found} == {"2"}
    late = submit(rack, work, "true", *options)
    wait_reason(rack, late, "Resources")
    assert "too few free gpu:a100" in rack.run("hwhy", str(late)).stdout

    shown = rack.run("hctl", "show", "node", "n1").stdout
    assert "Gres=gpu:a100:4,nvme:1\n" in shown
    assert "GresUsed=gpu:a100:4(IDX:0-3),nvme:0(IDX:N/A)\n" in shown
    assert "gres/gpu=4,gres/gpu:a100=4,gres/nvme=1\n" in shown
    assert "AllocTRES=cpu=2,mem=20M,gres/gpu=4,gres/gpu:a100=4" in shown
    shown = rack.run("hctl", "-d", "show", "job", str(jobs[0])).stdout
    assert "GRES=gpu:a100:2(IDX:" in shown
    assert "TresPerNode=gres/gpu:a100:2\n" in shown
    assert rack.run("hqueue", "-h", "-j", str(late), "-o", "%b").stdout == "gres/gpu:a100:2\n"
    assert rack.run("hinfo", "-h", "-n", "n1", "-o", "%G").stdout == "gpu:a100:4,nvme:1\n"

    go.touch()
    for job in (*jobs, late):
        assert finish(rack, job)["exit_code"] == "0:0"
    assert "GresUsed=gpu:a100:0(IDX:N/A)," in rack.run("hctl", "show", "node", "n1").stdout


def test_devices_survive_a_restart_of_the_controller(rack: TestCluster, work: Path) -> None:
    go = work / "go"
    job = submit(rack, work, f"{PRINT.format(work / 'a')}; {blocker(go)}", "-w", "n2", "-G", "3", "-t1", *NULL)
    assert seen(rack, work / "a")["SLURM_JOB_GPUS"] == "0,1,2"
    rack.kill9_controller()
    rack.start_controller()
    rack.wait_nodes()
    assert "GresUsed=gpu:3(IDX:0-2)," in rack.run("hctl", "show", "node", "n2").stdout
    last = submit(rack, work, PRINT.format(work / "b"), "-w", "n2", "--gpus-per-node=1", "-t1", *NULL)
    finish(rack, last)
    assert seen(rack, work / "b")["SLURM_JOB_GPUS"] == "3"
    go.touch()
    assert finish(rack, job)["exit_code"] == "0:0"


def test_whole_nodes_and_jobs_without_gpus(rack: TestCluster, work: Path) -> None:
    run_job(rack, work, PRINT.format(work / "whole"), "-w", "n3", "--exclusive", "-t1", *NULL)
    assert seen(rack, work / "whole")["SLURM_JOB_GPUS"] == "0,1,2,3"
    run_job(rack, work, PRINT.format(work / "none"), "-w", "n3", "-t1", *NULL)
    assert "SLURM_JOB_GPUS" not in seen(rack, work / "none")


def test_licences_are_waited_for(rack: TestCluster, work: Path) -> None:
    go = work / "go"
    first = submit(rack, work, blocker(go), "-L", "matlab:2", "-t1", *NULL)
    wait_state(rack, first, "RUNNING")
    second = submit(rack, work, "true", "-L", "matlab", "-t1", *NULL)
    other = submit(rack, work, "true", "-L", "ansys:1", "-t1", *NULL)
    finish(rack, other)
    wait_reason(rack, second, "Licenses")
    shown = rack.run("hctl", "show", "licenses", "matlab").stdout
    assert shown == "LicenseName=matlab\n    Total=2 Used=2 Free=0 Reserved=0 Remote=no\n"
    listed = rack.run("hqueue", "-h", "-L", "matlab", "-S", "i", "-o", "%i %W").stdout
    assert listed == f"{first} matlab:2\n{second} matlab:1\n"
    go.touch()
    finish(rack, first)
    assert finish(rack, second)["state"] == "COMPLETED"


def test_a_larger_count_of_licences_is_taken_live(rack: TestCluster, work: Path) -> None:
    conf, go = rack.cluster.layout.conf, work / "go"
    before = conf.read_text()
    first = submit(rack, work, blocker(go), "-L", "ansys", "-t1", *NULL)
    wait_state(rack, first, "RUNNING")
    second = submit(rack, work, "true", "-L", "ansys", "-t1", *NULL)
    wait_reason(rack, second, "Licenses")
    try:
        conf.write_text(before.replace("ansys", "ansys:2"))
        assert "applied: Licenses: matlab:2,ansys -> matlab:2,ansys:2" in rack.run("hctl", "reconfigure").stdout
        assert finish(rack, second)["state"] == "COMPLETED"
    finally:
        conf.write_text(before)
        rack.run("hctl", "reconfigure")
    go.touch()
    finish(rack, first)


def test_jobs_stay_below_one_switch(rack: TestCluster, work: Path) -> None:
    go = work / "go"
    busy = submit(rack, work, blocker(go), "-w", "n1", "--exclusive", "-t1", *NULL)
    wait_state(rack, busy, "RUNNING")
    two = run_job(rack, work, PRINT.format(work / "two"), "-N2", "--exclusive", "--switches=1", "-t1", *NULL)
    with rack.client() as client:
        assert client.job(two["job_id"])["nodes"] == "n[3-4]"
    assert seen(rack, work / "two")["SLURM_TOPOLOGY_ADDR"] == "top.s2.n3"
    more = submit(rack, work, "true", "-N2", "-w", "n2", "--exclusive", "--switches=1@60", "-t1", *NULL)
    wait_reason(rack, more, "Resources")
    go.touch()
    finish(rack, busy)
    finish(rack, more)
    with rack.client() as client:
        assert client.job(more)["nodes"] == "n[1-2]"
    shown = rack.run("hctl", "show", "topology").stdout.splitlines()
    assert shown[0] == "SwitchName=s1 Level=0 LinkSpeed=1 Nodes=n[1-2]"
    assert shown[2] == "SwitchName=top Level=1 LinkSpeed=1 Nodes=n[1-4] Switches=s1,s2"
    document = json.loads(rack.run("hctl", "--json", "show", "topology", "n4").stdout)
    assert [switch["name"] for switch in document["switches"]] == ["s2", "top"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gres=gpu:5",), "no node"),
        (("--gres=gpu:h100:1",), "no node has gpu:h100"),
        (("--gres=fpga",), "no node has fpga"),
        (("-L", "matlap"), "no licence 'matlap'"),
        (("-L", "matlab:3"), "3 licences matlab are asked, there are 2"),
        (("-L", "matlab|ansys"), "alternatives (|) are not served"),
        (("-G", "3", "-N2"), "not shared evenly over 2 nodes"),
        (("--gpus-per-task=1", "-n3"), "needs to know the tasks on each node"),
        (("--switches=0",), "is not N or N@TIME"),
    ],
)
def test_what_can_never_be_is_refused(rack: TestCluster, work: Path, options: tuple[str, ...], words: str) -> None:
    done = rack.run("hsubmit", *options, "--wrap", "true", cwd=work, check=False)
    assert done.returncode != 0
    assert words in done.stderr
