"""The controller's truth: records, and the indexes derived from them.

Owns the tables and the index bookkeeping; what jobs have of nodes is kept by its base classes, `allocations.py` and
`yielding.py`.  `apply.py` changes records through it; nothing else does.  Everything but the fields of `Persistent`
(`state_save.py`) and what is configured is derived, and rebuilt by `rebuild()` after a restart.

Invariants (asserted by `invariants.check`):
  * `free_cores[i]` / `free_mem_mib[i]` = capacity of node i less the allocations of exactly the ACTIVE jobs there;
    `free_cores[i]` is 0 on a node whose CPUs are counted.
  * A job that yields its CPUs (suspended to make room) owns its memory and none of its cores; the cores that such jobs
    and claims of preempting jobs wait for are in `kept_cores` and are not offered to anybody else.
  * `schedulable` = exactly the waiting jobs that may start now: PENDING, not held, dependency met, begin time
    reached, and for an array: some task may start within its limit.
  * `active` = exactly the jobs in an ACTIVE state.

Cost: every event is O(nodes of the job) + O(dependents of the job); nothing scans the queue.
"""

from __future__ import annotations

from collections import deque
from heapq import heappush

from msgspec import Struct

from helix.indexset import IndexSet
from helix.model.account import Accounts
from helix.model.job import JobRecord, StoryEntry
from helix.model.job_state import ACTIVE, JobState, Reason, is_legal
from helix.model.node import NodeBase, NodeRecord
from helix.model.partition import PartitionRecord
from helix.model.reservation import ReservationRecord
from helix.model.topology import Topology
from helix.sched.preempt import PreemptRules
from helixctld.core.allocations import Allocations
from helixctld.core.deadlines import watch_deadline
from helixctld.core.dependencies import Verdict, evaluate, ready_tasks
from helixctld.core.limit_book import LimitBook
from helixctld.core.limits import gate
from helixctld.core.mail_marks import INVALID_DEPEND, set_marks
from helixctld.core.reservation_index import awaited, index_job, mark_nodes
from helixctld.core.state_save import HistoryEntry, NodeKept, Persistent
from helixctld.core.submit_limits import OpenJobs
from helixctld.core.usage import Usage, UsagePolicy
from helixctld.core.yielding import claim_words

STORY_MAX = 64  #: entries kept per job
HISTORY_MAX = 1_000_000  #: finished jobs remembered for dependencies, about 100 B each
TOKENS_MAX = 2_000_000  #: submit tokens remembered; the oldest go first
TOKEN_LIFE_S = 7 * 86400.0  #: a repeated submit is recognised for at least this long


REMOVED = "not in the configuration any more"  #: reason of a node that has jobs and left the configuration


class Transition(Struct, frozen=True):
    """A change of a job's state, for watchers, waiters and mail."""

    job: JobRecord
    old: str
    new: str
    t: float


class State(Allocations):
    """All tables.  Attributes are read everywhere in the controller and written by `helixctld.core` only."""

    def __init__(self, cluster: str = "") -> None:
        super().__init__()
        self.cluster = cluster
        self.epoch = 0
        self.next_job_id = 1
        self.jobs: dict[int, JobRecord] = {}
        self.nodes: dict[str, NodeRecord] = {}
        self.node_names: list[str] = []
        self.partitions: dict[str, PartitionRecord] = {}
        self.history: dict[int, HistoryEntry] = {}
        self.tokens: dict[str, tuple[int, float]] = {}
        self.keys: dict[str, str] = {}  # link name -> CURVE public key (Z85) admitted by a join token
        self.blobs: set[str] = set()  # scripts and environments whose content is in the journal or under a snapshot
        self.reservations: dict[str, ReservationRecord] = {}
        self.usage = Usage()
        # configured
        self.accounts = Accounts()
        self.usage_policy = UsagePolicy()
        self.accounts_version = 0  # rises with each change of the two
        self.limit_book = LimitBook(self.accounts)
        self.partition_qos: dict[str, str] = {}  # QOS of the partitions that have one
        self.open_jobs = OpenJobs(self.accounts, self.partition_qos)  # derived; kept while there are accounts
        self.usage_version = 0  # rises with each decay
        self.usage_charges = 0  # rises with each change of the book
        # derived
        self.schedulable: set[int] = set()
        self.active: set[int] = set()
        self.dependents: dict[int, set[int]] = {}  # job id -> waiting jobs with an edge to it
        self.singletons: dict[tuple[int, str], set[int]] = {}  # (uid, name) -> open jobs
        self.awaiting_name: dict[tuple[int, str], set[int]] = {}  # (uid, name) -> jobs with a `singleton` edge
        self.array_tasks: dict[int, dict[int, int]] = {}  # array id -> task index -> job id
        self.finished: deque[tuple[float, int]] = deque()  # (t_end, job id), oldest first
        self.timers: list[tuple[float, int]] = []  # heap of (t, job id): look at the job again
        self.reservation_jobs: dict[str, set[int]] = {}  # reservation -> open jobs that ask for it or run in it
        self.reserving_jobs: dict[int, frozenset[str]] = {}  # the other way round
        self.calendar_version = 0  # rises when the next moment of a reservation may be another
        self.over_run: list[tuple[float, int]] = []  # heap of (t, job id): running on after their reservation, until t
        self.is_replaying = False  # nodes may have become smaller since the jobs of the journal were started
        self.licences: dict[str, int] = {}  # configured: name -> how many
        self.licences_version = 0  # rises with a change of those
        self.topology = Topology()  # configured
        self.preempt_rules = PreemptRules()  # configured
        # for the planner: drained by the scheduling cycle
        self.to_look_at: list[int] = []  # jobs in question since the accounts changed; nothing starts meanwhile
        self.dirty_jobs: set[int] = set()
        self.dirty_active: set[int] = set()  # jobs whose allocation, or the end of it, changed
        self.dirty_minutes: set[int] = set()  # active jobs of whose time limits less is left
        self.dirty_nodes: set[str] = set()
        self.dirty_partitions = True
        self.dirty_reservations = True
        # for the shell: drained every loop turn
        self.transitions: list[Transition] = []
        self.notices: list[tuple[JobRecord, str]] = []  # jobs and words of --mail-type that no transition brings
        self.marks: dict[tuple[int, str], float] = {}  # (job id, TIME_LIMIT_80 ...) -> when it is passed
        self.mark_queue: list[tuple[float, int, str]] = []  # heap of the same
        self.counts: dict[str, int] = {}  # state word -> number of records
        self.doomed: set[int] = set()  # waiting jobs whose dependency can never hold and that asked to be killed

    # ---- configuration -----------------------------------------------------------------------------------------

    def set_nodes(self, nodes: list[NodeRecord]) -> list[str]:
        """Take the configured nodes, keeping what is known of those that stay.

        Returns the names of configured-away nodes that still have jobs (they stay, DOWN, until the jobs are gone).
        """
        kept = self.nodes
        self.nodes = {}
        orphans: list[str] = []
        for new in nodes:
            old = kept.pop(new.name, None)
            if old is not None:
                for name in _KEPT_NODE_FIELDS:
                    setattr(new, name, getattr(old, name))
                if new.reason == REMOVED and new.responding:  # it was gone from the configuration for a while
                    new.base, new.reason, new.down_by_silence = NodeBase.UP, "", False
            self.nodes[new.name] = new
        for old in kept.values():
            if old.jobs:
                # down_by_silence: its next registration after it was put back makes it usable
                old.base, old.down_by_silence, old.reason = NodeBase.DOWN, True, old.reason or REMOVED
                self.nodes[old.name] = old
                orphans.append(old.name)
        self.node_names = list(self.nodes)
        for index, node in enumerate(self.nodes.values()):
            node.index = index
        self.recount_allocations()
        mark_nodes(self, self.nodes)
        self.dirty_nodes.update(self.node_names)
        self.dirty_partitions = True
        return orphans

    def set_partitions(self, partitions: list[PartitionRecord]) -> None:
        """Take the configured partitions."""
        self.partitions = {p.name: p for p in partitions}
        self.dirty_partitions = True
        self.take_partition_qos()

    def take_partition_qos(self) -> bool:
        """Note the QOS of the partitions; True if they are others now: waiting jobs are to be looked at again."""
        found = {p.name: p.qos for p in self.partitions.values() if p.qos}
        if found == self.partition_qos:
            return False
        self.partition_qos = found
        self.accounts_version += 1
        self._count_open()
        return True

    def set_licences(self, licences: dict[str, int]) -> None:
        """Take the configured licences."""
        if licences != self.licences:
            self.licences = licences
            self.licences_version += 1
            self.dirty_partitions = True

    def set_topology(self, topology: Topology) -> None:
        """Take the configured topology."""
        if topology != self.topology:
            self.topology = topology
            self.dirty_nodes.update(self.node_names)

    def set_accounts(self, accounts: Accounts, policy: UsagePolicy) -> None:
        """Take the configured accounts, associations and QOS, and how usage and limits are kept."""
        self.accounts, self.usage_policy = accounts, policy
        self.accounts_version += 1
        self.limit_book = LimitBook(accounts)
        self._count_open()

    def _count_open(self) -> None:
        """Count open jobs under other accounts: what is known of the jobs is kept, once there are any."""
        known = self.open_jobs if self.open_jobs.accounts.is_configured else None
        self.open_jobs = OpenJobs(self.accounts, self.partition_qos, known)
        if self.accounts.is_configured and known is None:
            for job in self.jobs.values():
                self.open_jobs.note(job.job_id, job)

    def question_all(self) -> None:
        """Whether waiting jobs may start is another question now; `look_at_some` answers it, a few at a time."""
        self.to_look_at = list(self.jobs)

    def look_at_some(self, now: float, count: int) -> None:
        """Look again at up to `count` of the jobs in question."""
        some = self.to_look_at[-count:]
        del self.to_look_at[-count:]
        for job in filter(None, map(self.jobs.get, some)):
            if job.is_waiting and (job.job_id not in self.schedulable or gate(self, job) is not None):
                self.look_again(job, now)

    @property
    def default_partition(self) -> str:
        """Name of the default partition, "" if none is marked."""
        return next((p.name for p in self.partitions.values() if p.is_default), "")

    # ---- records -----------------------------------------------------------------------------------------------

    def add_job(self, job: JobRecord) -> None:
        """Put a record into the tables and indexes."""
        self.jobs[job.job_id] = job
        # ids of components follow the leader's
        self.next_job_id = max(self.next_job_id, job.job_id + 1 + len(job.spec.components))
        self.counts[job.state] = self.counts.get(job.state, 0) + 1
        if job.array_job_id and job.array_task_id is not None:
            self.array_tasks.setdefault(job.array_job_id, {})[job.array_task_id] = job.job_id
        if job.state in ACTIVE:
            self.active.add(job.job_id)
        if not job.is_terminal and job.array_task_id is None:
            self.singletons.setdefault((job.uid, job.spec.name), set()).add(job.job_id)
        if job.is_waiting:
            self.register_edges(job)
        if job.spec.reservation or job.reservation:
            index_job(self, job, job.t_submit)

    def forget_job(self, job_id: int) -> None:
        """Take a finished record out of the tables; its history entry stays."""
        job = self.jobs.pop(job_id)
        self.counts[job.state] -= 1
        if job.array_job_id and job.array_task_id is not None:
            tasks = self.array_tasks.get(job.array_job_id)
            if tasks is not None and tasks.get(job.array_task_id) == job_id:
                del tasks[job.array_task_id]
                if not tasks:
                    del self.array_tasks[job.array_job_id]
        tasks_ok = job.forgotten_ok or IndexSet() if job.is_array else None
        self.history[job_id] = HistoryEntry(job.state, job.exit.code, job.exit.signal, job.t_end, tasks_ok)
        while len(self.history) > HISTORY_MAX:
            del self.history[next(iter(self.history))]
        self.dirty_jobs.add(job_id)

    def set_job_state(self, job: JobRecord, new: JobState, t: float, cause: str) -> None:
        """Move a job to `new`; an illegal transition is a fault of Helix and prints the job's story."""
        old = job.state
        if old is not new and not is_legal(old, new):
            told = "; ".join(f"{e.t:.3f} {e.old}>{e.new} {e.cause}" for e in job.story)
            raise AssertionError(f"job {job.display_id}: {old} to {new} is not legal ({cause}); story: {told}")
        job.state = new
        if job.claim is not None and not job.is_waiting:
            self.drop_claim(job)
        self.counts[old] -= 1
        self.counts[new] = self.counts.get(new, 0) + 1
        self.tell(job, old, new, t, cause)
        if old in ACTIVE or new in ACTIVE:
            self.dirty_active.add(job.job_id)
        if new is JobState.RUNNING and job.spec.mail_type:
            set_marks(self, job, t)
        if new in ACTIVE:
            self.active.add(job.job_id)
        else:
            self.active.discard(job.job_id)
        if job.spec.reservation or job.reservation:
            index_job(self, job, t)
        if job.is_terminal:
            self.finished.append((t, job.job_id))
            if job.array_task_id is None:
                self._drop_singleton(job, job.spec.name, job.t_end)
        elif not is_open(old) and job.array_task_id is None:
            self.singletons.setdefault((job.uid, job.spec.name), set()).add(job.job_id)

    def tell(self, job: JobRecord, old: str, new: str, t: float, cause: str) -> None:
        """Add a line to the job's story and tell the watchers."""
        if len(job.story) >= STORY_MAX:
            del job.story[1]
        job.story.append(StoryEntry(t, str(old), str(new), cause))
        self.transitions.append(Transition(job, str(old), str(new), t))

    def register_edges(self, job: JobRecord) -> None:
        """Note whom a waiting job waits for."""
        if job.spec.dependency is not None:
            for edge in job.spec.dependency.edges:
                if edge.job_id:
                    self.dependents.setdefault(edge.job_id, set()).add(job.job_id)
                if edge.kind == "singleton":
                    self.awaiting_name.setdefault((job.uid, job.spec.name), set()).add(job.job_id)

    def _drop_singleton(self, job: JobRecord, name: str, now: float) -> None:
        """The job is no longer an open one of that name: the first of those that wait for that may start."""
        key = job.uid, name
        peers = self.singletons.get(key, set())
        peers.discard(job.job_id)
        if not peers:
            self.singletons.pop(key, None)
        waiting = self.awaiting_name.get(key)
        if waiting is None:
            return
        first = min(peers, default=1 << 62)
        for other_id in list(waiting):
            other = self.jobs.get(other_id)
            if other is None or not other.is_waiting or (other.uid, other.spec.name) != key:
                waiting.discard(other_id)
            elif other_id <= first or other.array_job_id == first:  # the others have an earlier one before them
                self.look_again(other, now)
        if not waiting:
            del self.awaiting_name[key]

    def rename(self, job: JobRecord, old_name: str, now: float) -> None:
        """Keep the singleton index true after a job's name changed."""
        self._drop_singleton(job, old_name, now)
        if not job.is_terminal and job.array_task_id is None:
            self.singletons.setdefault((job.uid, job.spec.name), set()).add(job.job_id)

    # ---- may it start? -----------------------------------------------------------------------------------------

    def tasks_startable(self, job: JobRecord) -> int:
        """How many starts this record allows now: 1 for a plain job; for an array, within %limit and aftercorr."""
        if job.pending is None:
            return 1
        count = len(job.pending)
        if job.spec.dependency is not None and any(e.kind == "aftercorr" for e in job.spec.dependency.edges):
            count = len(ready_tasks(self, job))
        if job.spec.array_limit:
            count = min(count, job.spec.array_limit - job.tasks_active)
        return max(0, count)

    def next_tasks(self, job: JobRecord, count: int) -> list[int]:
        """The task indexes that `count` starts of an array take, lowest first."""
        assert job.pending is not None
        if job.spec.dependency is not None and any(e.kind == "aftercorr" for e in job.spec.dependency.edges):
            return ready_tasks(self, job)[:count]
        taken: list[int] = []
        for index in job.pending:
            if len(taken) == count:
                break
            taken.append(index)
        return taken

    def look_again(self, job: JobRecord, now: float) -> None:
        """Recompute whether `job` may start, and the reason it shows if not."""
        may, reason, text = self._may_start(job, now)
        if may:
            if job.job_id not in self.schedulable:
                self.schedulable.add(job.job_id)
                if job.reason not in (Reason.RESOURCES, Reason.PRIORITY):
                    job.reason, job.reason_text = Reason.PRIORITY if job.attempt == 0 else Reason.NONE, ""
        else:
            self.schedulable.discard(job.job_id)
            if job.is_waiting:
                if reason is Reason.DEPENDENCY_NEVER is not job.reason and job.spec.mail_type:
                    self.notices.append((job, INVALID_DEPEND))
                job.reason, job.reason_text = reason, text
        self.dirty_jobs.add(job.job_id)

    def _may_start(self, job: JobRecord, now: float) -> tuple[bool, Reason, str]:
        if job.state is not JobState.PENDING:
            return False, job.reason, job.reason_text
        if job.held:
            if job.reason in (Reason.LAUNCH_FAILED_REQUEUED_HELD, Reason.RESERVATION_DELETED):
                return False, job.reason, job.reason_text
            return False, (Reason.HELD_ADMIN if job.held == "admin" else Reason.HELD_USER), ""
        if job.spec.dependency is not None and not job.dependency_met:
            verdict, again = evaluate(self, job, now)
            if again:
                heappush(self.timers, (again, job.job_id))
            if verdict is Verdict.NEVER:
                if job.spec.kill_on_invalid_dep:
                    self.doomed.add(job.job_id)
                return False, Reason.DEPENDENCY_NEVER, ""
            if verdict is Verdict.WAIT:
                return False, Reason.DEPENDENCY, ""
            # an array waits on its corresponding tasks one by one: that is never met for good
            job.dependency_met = job.pending is None or all(e.kind != "aftercorr" for e in job.spec.dependency.edges)
        if job.spec.t_begin > now:
            heappush(self.timers, (job.spec.t_begin, job.job_id))
            return False, Reason.BEGIN_TIME, ""
        if job.spec.reservation and (words := awaited(self, job)):
            return False, Reason.RESERVATION, words
        if job.claim is not None and job.pending is None:
            return False, Reason.RESOURCES, claim_words(job.claim)
        if job.pending is not None:
            if not job.pending:
                return False, Reason.NONE, ""
            if job.spec.array_limit and job.tasks_active >= job.spec.array_limit:
                return False, Reason.ARRAY_TASK_LIMIT, ""
        # limits keep no job from ageing, as in Slurm; and a replay, which does not know them, comes to the same
        job.t_eligible = job.t_eligible or now
        if (kept := gate(self, job)) is not None:
            return False, *kept
        return True, Reason.NONE, ""

    def wake_dependents(self, job: JobRecord, now: float) -> None:
        """Look again at every waiting job with an edge to `job` (or to its array)."""
        for target in (job.job_id, job.array_job_id):
            for waiting in list(self.dependents.get(target, ())):
                other = self.jobs.get(waiting)
                if other is None or not other.is_waiting:
                    self.dependents[target].discard(waiting)
                else:
                    self.look_again(other, now)

    def set_responding(self, name: str, responding: bool) -> bool:
        """Note whether a node answers (not journaled: found out anew after a restart).  True if it changed."""
        node = self.nodes[name]
        if node.responding == responding:
            return False
        node.responding = responding
        self.dirty_nodes.add(name)
        return True

    # ---- snapshot ----------------------------------------------------------------------------------------------

    def freeze(self) -> Persistent:
        """Everything a restart needs."""
        return Persistent(
            cluster=self.cluster,
            epoch=self.epoch,
            next_job_id=self.next_job_id,
            jobs=list(self.jobs.values()),
            nodes={
                n.name: NodeKept(**{f: getattr(n, f) for f in NodeKept.__struct_fields__}) for n in self.nodes.values()
            },
            history=self.history,
            tokens=self.tokens,
            keys=self.keys,
            blobs=self.blobs,
            reservations=list(self.reservations.values()),
            usage=self.usage,
        )

    def thaw(self, kept: Persistent) -> None:
        """Take over a snapshot; `set_nodes`, `set_partitions` and `rebuild` come after the replay."""
        self.epoch, self.next_job_id = kept.epoch, kept.next_job_id
        self.history, self.tokens, self.keys = kept.history, kept.tokens, kept.keys
        self.blobs = kept.blobs
        self.usage = kept.usage
        self.reservations = {r.name: r for r in kept.reservations}
        for name, node_kept in kept.nodes.items():
            node = NodeRecord(name=name, index=len(self.nodes))
            for f in NodeKept.__struct_fields__:
                setattr(node, f, getattr(node_kept, f))
            self.nodes[name] = node
        self.node_names = list(self.nodes)
        for job in kept.jobs:
            self.add_job(job)
        self.recount_allocations()
        mark_nodes(self, self.nodes)

    def rebuild(self, now: float) -> None:
        """Recompute what depends on the whole state: eligibility, timers, finished order."""
        self.timers.clear()
        self.schedulable.clear()
        self.finished = deque(sorted((j.t_end, j.job_id) for j in self.jobs.values() if j.is_terminal))
        for job in list(self.jobs.values()):
            if job.is_waiting:
                # its begin time may have come while nobody looked: it has waited since then
                began = 0.0 < job.spec.t_begin <= now and not job.t_eligible
                self.look_again(job, job.spec.t_begin if began else now)
                watch_deadline(self, job)
        self.over_run = sorted((j.t_over_run, j.job_id) for j in map(self.jobs.get, self.active) if j and j.t_over_run)
        self.dirty_nodes.update(self.node_names)
        self.dirty_partitions = self.dirty_reservations = True
        self.marks, self.mark_queue = {}, []
        for job in map(self.jobs.__getitem__, self.active):
            set_marks(self, job, now)
        self.transitions.clear()
        self.notices.clear()

    def drop_unused_blobs(self) -> set[str]:
        """Forget blobs that no job refers to, before a snapshot; gives those to keep."""
        used = {h for job in self.jobs.values() for h in (job.spec.script_hash, job.spec.env_hash) if h}
        self.blobs &= used
        return used

    def remember_token(self, token: str, job_id: int, t: float) -> None:
        """So that a repeated submit is given the same id; the oldest tokens go when there are too many."""
        self.tokens[token] = (job_id, t)
        if len(self.tokens) > TOKENS_MAX:
            del self.tokens[next(iter(self.tokens))]

    def tasks_of(self, array_job_id: int) -> list[JobRecord]:
        """The started tasks of an array that are still in the table, by index."""
        tasks = self.array_tasks.get(array_job_id, {})
        return [self.jobs[tasks[index]] for index in sorted(tasks)]


_KEPT_NODE_FIELDS = (*NodeKept.__struct_fields__, "responding", "fingerprint", "skew_s", "t_last_seen", "jobs")


def is_open(state: JobState) -> bool:
    """True for every state but the terminal ones."""
    return state in ACTIVE or state in (JobState.PENDING, JobState.REQUEUE_HOLD, JobState.SPECIAL_EXIT)
