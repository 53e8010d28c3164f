"""The values of hsubmit's options: text in, the JSON form of JobSpec's fields out.

Every parser raises UsageError or ValueError with one line that quotes what it could not read; the option's name is
put before it by the caller.  Imports are made where they are needed: most submissions use few of them.
"""

from __future__ import annotations

from helix.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATTERN_CHARS_MAX = 4096  #: a file name pattern; PATH_MAX
EDGES_MAX = 1024  #: dependencies of one job
HOST_FILE_BYTES_MAX = 8 << 20
PRIORITY_MAX = 4294967294

#: Limits by Slurm's names (sbatch(1) --propagate).
LIMIT_NAMES = ("AS", "CORE", "CPU", "DATA", "FSIZE", "MEMLOCK", "NOFILE", "NPROC", "RSS", "STACK")
MAIL_TYPES = frozenset(
    {
        "NONE",
        "BEGIN",
        "END",
        "FAIL",
        "REQUEUE",
        "ALL",
        "INVALID_DEPEND",
        "STAGE_OUT",
        "TIME_LIMIT",
        "TIME_LIMIT_90",
        "TIME_LIMIT_80",
        "TIME_LIMIT_50",
        "ARRAY_TASKS",
    }
)
#: sbatch(1) --gres-flags; neighbours contradict each other
GRES_FLAGS = (
    "disable-binding",
    "enforce-binding",
    "multiple-tasks-per-sharing",
    "one-task-per-sharing",
    "allow-task-sharing",
)
DEPENDENCY_KINDS = frozenset({"after", "afterok", "afterany", "afternotok", "aftercorr"})
_LATER_KINDS = frozenset({"afterburstbuffer", "expand"})
_DEPENDENCY_FORM = "the form is afterok:12:13,afterany:14_3,singleton; with ? instead of , any one of them will do"
_DISTRIBUTIONS = frozenset({"block", "cyclic", "arbitrary", "fcyclic", "*", "pack", "nopack"})


def node_count(text: str) -> tuple[int, int]:
    """`MIN[-MAX]` as (least, most); one number is both."""
    from helix.cli.options import count

    low, dash, high = text.partition("-")
    least = count(low)
    most = count(high) if dash else least
    if most < least:
        raise ValueError(f"{text.strip()}: the least is above the most")
    return least, most


def node_memory(text: str) -> int:
    """MiB; 0 is all memory of a node."""
    from helix.sizes import parse_mem_mib

    return parse_mem_mib(text)


def cpu_memory(text: str) -> int:
    """MiB, at least 1."""
    mib = node_memory(text)
    if not mib:
        raise ValueError("0 is not a memory size for a CPU (--mem=0 is all memory of a node)")
    return mib


def size(text: str) -> int:
    """MiB."""
    return node_memory(text)


def exclusive(text: str) -> bool:
    """`--exclusive=user` and its like belong to a later part; no value is a whole node."""
    from helix.cli.options import not_supported

    word = text.strip().lower()
    if word in ("user", "mcs", "topo"):
        raise not_supported(f"--exclusive={word}")
    if word in ("", "exclusive", "ok", "yes", "1"):
        return True
    raise ValueError(f"'{text[:40]}' is not user, mcs or topo")


def hosts(text: str) -> str:
    """A host list, checked for form; a path means a file that holds one, as in sbatch(1) --nodelist."""
    if "/" in text:
        return host_file(text)
    from helix.hostlist import count_hosts

    count_hosts(text)
    return text.strip()


def host_file(path: str) -> str:
    """The host list in a file: names separated by white space or commas."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read(HOST_FILE_BYTES_MAX + 1)
    if len(text) > HOST_FILE_BYTES_MAX:
        raise ValueError(f"{path} is larger than {HOST_FILE_BYTES_MAX} bytes")
    listed = ",".join(text.replace(",", " ").split())
    if not listed:
        raise ValueError(f"{path} names no node")
    from helix.hostlist import count_hosts

    count_hosts(listed)
    return listed


def generic(text: str) -> str:
    """`gpu:a100:2,nvme`, checked for form; `none` asks for nothing."""
    from helix.gres import format_items, parse_gres

    return format_items(parse_gres(text))


def gres_flags(text: str) -> list[str]:
    """`enforce-binding,one-task-per-sharing`: the words, checked."""
    from helix.cli.options import nearest, words

    found = [word.lower() for word in words(text)]
    for word in found:
        if word not in GRES_FLAGS:
            raise UsageError(f"no flag '{word[:40]}'", code="OPTION_INVALID",
                             hint=nearest(word, GRES_FLAGS) or "the flags are " + ", ".join(GRES_FLAGS))  # fmt: skip
    for one, other in (GRES_FLAGS[:2], GRES_FLAGS[2:4]):
        if one in found and other in found:
            raise ValueError(f"{one} and {other} contradict each other")
    return sorted(set(found))


def gpus(text: str) -> str:
    """`4`, `a100:2`, checked for form."""
    from helix.gres import parse_gpus

    if not parse_gpus(text):
        raise ValueError("a number of GPUs is missing")
    return text.strip()


def licences(text: str) -> str:
    """`matlab:2,ansys`, checked for form."""
    from helix.licences import parse_licences

    found = parse_licences(text)
    if not found and text.strip():
        raise ValueError(f"'{text.strip()[:60]}' asks for no licence")
    return ",".join(f"{name}:{count}" for name, count in found)


def tres_per_task(text: str) -> tuple[int, str]:
    """`cpu=4,gres/gpu=1`: CPUs and GPUs."""
    from helix.cli.submit_devices import tres_per_task

    return tres_per_task(text)


def switches(text: str) -> tuple[int, int | None]:
    """`1`, `2@0:30:00`: how many, and how long to wait for them (seconds; None: as long as the cluster lets)."""
    number, at, wait = text.partition("@")
    if not (number.isascii() and number.isdigit() and 0 < int(number[:9]) < 1 << 20):
        raise ValueError(f"'{text[:40]}' is not N or N@TIME")
    return int(number), time_limit(wait) if at else None


def extra_node_info(text: str) -> tuple[int, int, int]:
    """`-B SOCKETS[:CORES[:THREADS]]`; `*` and what is left out is 0: any number."""
    words = text.strip().split(":")
    if len(words) > 3 or not words[0]:
        raise ValueError(f"'{text[:40]}' is not SOCKETS[:CORES[:THREADS]]")
    found = []
    for word in words:
        if word != "*" and not (word.isascii() and word.isdigit() and 0 < int(word[:9]) < 1 << 16):
            raise ValueError(f"'{word[:20]}' is not a number of sockets, cores or threads")
        found.append(0 if word == "*" else int(word))
    sockets, cores, threads = (*found, 0, 0, 0)[:3]
    return sockets, cores, threads


def hint(text: str) -> int:
    """Threads used of each core: 1 for `nomultithread`, 0 (all) for `multithread`; others would bind tasks."""
    from helix.cli.options import not_supported

    word = text.strip().lower()
    if word not in ("multithread", "nomultithread"):
        raise not_supported(f"--hint={word[:40]}")
    return int(word == "nomultithread")


def distribution(text: str) -> str:
    """`block`, `cyclic`, `plane=4`, `block:cyclic:fcyclic`..., checked for form and kept."""
    head, _, options = text.strip().lower().partition(",")
    parts = head.split(":")
    plane = parts[0].startswith("plane=") and parts[0][6:].isdigit()
    good = (plane or parts[0] in _DISTRIBUTIONS) and all(part in _DISTRIBUTIONS for part in parts[1:])
    if not good or len(parts) > 3 or (options and options not in ("pack", "nopack")):
        raise ValueError(f"'{text[:40]}' is not block, cyclic, plane=N or arbitrary")
    return text.strip().lower()


def time_limit(text: str) -> int:
    """Seconds; 0 is unlimited."""
    digits = text.strip()
    if digits.isascii() and digits.isdigit() and len(digits) < 8:  # minutes: spares the import
        return int(digits) * 60
    from helix.timefmt import parse_time_limit

    return parse_time_limit(text)


def moment(text: str) -> float:
    """Epoch seconds."""
    import time

    from helix.timefmt import parse_when

    return parse_when(text, time.time())


def warn_signal(text: str) -> dict[str, Any]:
    """`[B:]signal[@seconds]` as a SignalSpec."""
    from helix.cli.options import integer, not_supported, signal_number

    flags, colon, rest = text.strip().rpartition(":")
    letters = flags.upper() if colon else ""
    if "R" in letters:
        raise not_supported("--signal=R:")
    if letters not in ("", "B"):
        raise ValueError(f"'{flags[:20]}:' is not B:")
    name, at, seconds = rest.partition("@")
    number = signal_number(name)
    if not number:
        raise ValueError("0 is not a signal that can be sent")
    before = integer(0, 65_535)(seconds) if at else 60
    return {"signal": number, "before_s": before, "batch_only": bool(letters)}


def array(text: str) -> tuple[str, int]:
    """The index set in its canonical text, and how many may run at once (0: no limit)."""
    from helix.indexset import parse_array_spec

    indexes, limit = parse_array_spec(text)
    return str(indexes), limit or 0


def dependency(text: str) -> dict[str, Any]:
    """A DependencyExpr.  Raises UsageError (DEPENDENCY_INVALID) naming the part that cannot be read."""
    if "," in text and "?" in text:
        raise _bad_dependency("it uses ',' or '?', not both")
    edges: list[dict[str, Any]] = []
    for part in text.split("?" if "?" in text else ","):
        edges.extend(_dependency_part(part.strip()))
        if len(edges) > EDGES_MAX:
            raise _bad_dependency(f"more than {EDGES_MAX} jobs")
    return {"edges": edges, "any": "?" in text}


def _dependency_part(part: str) -> list[dict[str, Any]]:
    kind, colon, rest = part.partition(":")
    kind = kind.strip().lower()
    if kind == "singleton" and not colon:
        return [{"kind": "singleton"}]
    if kind in _LATER_KINDS:
        from helix.cli.options import not_supported

        raise not_supported(f"--dependency={kind}")
    if not colon and _is_number(kind, 18):  # sbatch's oldest form: a bare id
        return [_dependency_edge("afterany", kind, part)]
    if kind not in DEPENDENCY_KINDS:
        from helix.cli.options import nearest

        raise UsageError(
            f"'{part[:60]}' is not a dependency",
            code="DEPENDENCY_INVALID",
            hint=nearest(kind, [*DEPENDENCY_KINDS, "singleton"]) or _DEPENDENCY_FORM,
        )
    if not rest:
        raise _bad_dependency(f"'{part[:60]}' names no job")
    return [_dependency_edge(kind, item.strip(), part) for item in rest.split(":")]


def _dependency_edge(kind: str, item: str, part: str) -> dict[str, Any]:
    ids, plus, minutes = item.partition("+")
    job, under, task = ids.partition("_")
    edge: dict[str, Any] = {"kind": kind}
    if not _is_number(job, 18) or not int(job) or (under and task != "*" and not _is_number(task, 9)):
        raise _bad_dependency(f"'{item[:40]}' in '{part[:60]}' is not a job id")
    edge["job_id"] = int(job)
    if under and task != "*":
        edge["task_id"] = int(task)
    if plus:
        if kind != "after" or not _is_number(minutes, 7):
            raise _bad_dependency(f"'{item[:40]}' in '{part[:60]}': +minutes goes with after")
        edge["delay_s"] = int(minutes) * 60
    return edge


def _bad_dependency(why: str) -> UsageError:
    return UsageError(why, code="DEPENDENCY_INVALID", hint=_DEPENDENCY_FORM)


def _is_number(text: str, digits: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= digits


def yes_no(text: str) -> bool:
    """`yes` or `no`."""
    word = text.strip().lower()
    if word in ("yes", "y", "true", "1"):
        return True
    if word in ("no", "n", "false", "0"):
        return False
    raise ValueError(f"'{text[:40]}' is not yes or no")


def priority(text: str) -> int:
    """A number, or TOP: the greatest there is."""
    if text.strip().upper() == "TOP":
        return PRIORITY_MAX
    from helix.cli.options import integer

    return integer(0, PRIORITY_MAX)(text)


def no_kill(text: str) -> bool:
    """`--no-kill` and `--no-kill=off`."""
    word = text.strip().lower()
    if word in ("off", "no"):
        return False
    if word in ("", "set", "yes", "on", "1"):
        return True
    raise ValueError(f"'{text[:40]}' is not off")


def directory(text: str) -> str:
    """An absolute path: a relative one starts at the present directory."""
    import os

    if not text or "\0" in text:
        raise ValueError("a directory is missing")
    return os.path.normpath(os.path.join(os.getcwd(), text)) if not text.startswith("/") else text


def file_pattern(text: str) -> str:
    """A file name with %-patterns, length checked; what it stands for is known only on the node.  `none` is
    /dev/null, as in sbatch(1)."""
    if text.lower() == "none":
        return "/dev/null"
    if not text:
        raise ValueError("a file name is missing")
    if len(text) > PATTERN_CHARS_MAX or "\0" in text:
        raise ValueError(f"the file name is longer than {PATTERN_CHARS_MAX} characters or contains NUL")
    return text


def open_mode(text: str) -> str:
    """`append` or `truncate`, or their first letters."""
    word = text.strip().lower()
    if word in ("a", "append"):
        return "append"
    if word in ("t", "truncate"):
        return "truncate"
    raise ValueError(f"'{text[:40]}' is not append or truncate")


def export(text: str) -> str:
    """Checked when the environment is built; an empty list is a mistake."""
    if not text.strip():
        raise ValueError("a list is missing (ALL, NONE, NIL, or names)")
    return text


def limit_names(text: str) -> str:
    """`ALL`, `NONE`, or names of LIMIT_NAMES (also as RLIMIT_NOFILE), comma-separated, in upper case."""
    names = [word.strip().upper().removeprefix("RLIMIT_") for word in text.split(",") if word.strip()]
    for name in names:
        if name not in (*LIMIT_NAMES, "ALL", "NONE"):
            raise ValueError(f"there is no limit '{name[:40]}' (there are {', '.join(LIMIT_NAMES)}, ALL, NONE)")
    if not names:
        raise ValueError("a list is missing")
    return ",".join(names)


def mail_types(text: str) -> list[str]:
    """Words of MAIL_TYPES."""
    found = [word.strip().upper() for word in text.split(",") if word.strip()]
    for word in found:
        if word not in MAIL_TYPES:
            raise ValueError(f"'{word[:40]}' is not one of {', '.join(sorted(MAIL_TYPES))}")
    return [] if found == ["NONE"] else found
