"""Generic resources of nodes: what `Gres=` of the node lines says, made complete by the lines of gres.conf.

The count of a name on a node is that of its node line; gres.conf must have at least as many units for it, and gives the
types where the node line has none.  The outcome is one text a node, `gpu:a100:4,nvme:1`, from which everything else is
derived.  Source: gres.conf(5).  Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from helix.config.findings import Findings, Severity
from helix.config.keys import GRES_KEYS, find_in, names_of, nearest
from helix.config.nodes import MAX_NODES, NodeLine, Nodes
from helix.config.parse import Entry
from helix.errors import UsageError
from helix.gres import COUNT_MAX, Item, format_items, kind_of, parse_count, parse_gres
from helix.hostlist import parse_hostlist
from helix.quoting import one_line


@dataclass(frozen=True, slots=True)
class GresLine:
    """A line of gres.conf: `units` more of a name and type, on `nodes` (None: everywhere)."""

    entry: Entry
    name: str
    type: str
    units: int
    nodes: frozenset[str] | None


def complete_gres(nodes: Nodes, entries: list[Entry], types: tuple[str, ...], findings: Findings) -> None:
    """Read the node lines' `Gres=` and the entries of gres.conf; the node lines are changed to the outcome."""
    lines = [line for entry in entries if (line := _read(entry, findings)) is not None]
    known = {name.lower() for name in types}
    for line in lines:
        if line.name.lower() not in known:
            _unknown_type(findings, line.entry.file, line.entry.line, line.name, types)
    told: dict[str, list[GresLine]] = {}  # node named -> lines for it
    for line in lines:
        for name in line.nodes or ():
            told.setdefault(name, []).append(line)
    everywhere = [line for line in lines if line.nodes is None]
    found: list[NodeLine] = []
    for node_line in nodes.lines:
        found.extend(_complete(node_line, told, everywhere, types, findings))
    nodes.lines[:] = found


def _unknown_type(findings: Findings, file: str, at: int, name: str, types: tuple[str, ...]) -> None:
    near = nearest(name, types)
    wanted = ",".join([*types, name])
    findings.error(
        file,
        at,
        "Gres",
        f"'{one_line(name)}' is not one of GresTypes={','.join(types)}",
        nearest=near,
        hint=f"did you mean '{near}'?" if near else f"add GresTypes={wanted}",
    )


def _read(entry: Entry, findings: Findings) -> GresLine | None:
    texts: dict[str, str] = {}
    for name, text in entry.pairs:
        key = find_in(GRES_KEYS, name)
        if key is None:
            near = nearest(name, names_of(GRES_KEYS))
            findings.add(
                entry.file,
                entry.line,
                Severity.UNKNOWN,
                name,
                f"unknown key '{one_line(name)}' in gres.conf",
                nearest=near,
                hint=f"did you mean {near}?" if near else "remove it",
            )
            return None
        findings.used(entry.file, entry.line, key, where="gres.conf", as_written=name)
        texts[key.attr] = text.strip()

    def fault(key: str, message: str, hint: str = "") -> None:
        findings.error(entry.file, entry.line, key, message, hint=hint)

    name = texts.get("name", "")
    if not name:
        if "" in texts and len(texts) == 1:  # AutoDetect=... on a line of its own
            return None
        fault("Name", "a line of gres.conf has no Name", "Name=gpu File=/dev/nvidia[0-3]")
        return None
    try:
        nodes = frozenset(parse_hostlist(texts["nodes"], limit=MAX_NODES)) if texts.get("nodes") else None
        files = _count_files(texts.get("file", ""))
        if texts.get("files"):
            files = 1
        parse_gres(f"{kind_of(name, texts.get('type', ''))}:1")
    except UsageError as error:
        fault("Name", f"bad line of gres.conf: {error.msg}", error.hint)
        return None
    units: int | None = max(files, 1)
    if texts.get("count"):
        units = parse_count(texts["count"])
        if units is None or units > COUNT_MAX:
            fault("Count", f"bad Count='{one_line(texts['count'])}'", f"a whole number up to {COUNT_MAX}")
            return None
        if files and units % files:
            fault("Count", f"Count={units} cannot be shared out evenly over {files} device files")
            return None
    assert units is not None
    return GresLine(entry, name, texts.get("type", ""), units, nodes)


def _count_files(text: str) -> int:
    """How many paths `/dev/nvidia[0-3]` stands for.  Raises UsageError."""
    return len(parse_hostlist(text.replace("/", "x"), limit=COUNT_MAX)) if text else 0


def _complete(
    line: NodeLine, told: dict[str, list[GresLine]], everywhere: list[GresLine], types: tuple[str, ...], found: Findings
) -> list[NodeLine]:
    """The node line, in pieces where gres.conf tells its nodes apart."""
    text = line.values["gres"]
    if not text:
        return [line]
    try:
        items = parse_gres(text)
    except UsageError as error:
        found.error(line.file, line.at, "Gres", f"bad Gres={error.msg}", hint=error.hint)
        return [line]
    known = {name.lower() for name in types}
    for name, _, _ in items:
        if name.lower() not in known:
            _unknown_type(found, line.file, line.at, name, types)
            return [line]
    sums: dict[str, int] = {}
    for name, _, units in items:
        sums[name] = sums.get(name, 0) + units
    if too_many := next((name for name, units in sums.items() if units > COUNT_MAX), ""):
        found.error(line.file, line.at, "Gres", f"Gres={one_line(text)}: more than {COUNT_MAX} units of {too_many}")
        return [line]
    pieces: list[NodeLine] = []
    last: list[GresLine] | None = None
    for at, node in enumerate(line.names):
        mine = told.get(node, [])
        if last is not None and mine == last:
            piece = pieces[-1]
            piece.names.append(node)
            piece.hostnames.append(line.hostnames[at])
            piece.addrs.append(line.addrs[at])
            piece.ports.append(line.ports[at])
            continue
        last = mine
        merged = _merge(items, [*mine, *everywhere], line, node, found)
        if merged is None:
            return [line]
        piece = replace(line, names=[node], values={**line.values, "gres": format_items(merged)})
        piece.hostnames, piece.addrs, piece.ports = [line.hostnames[at]], [line.addrs[at]], [line.ports[at]]
        pieces.append(piece)
    return pieces


def _merge(
    items: list[Item], lines: list[GresLine], node_line: NodeLine, node: str, found: Findings
) -> list[Item] | None:
    """The items with types from gres.conf; None when it has fewer units, with the fault noted."""
    merged: list[Item] = []
    left = {id(line): line.units for line in lines}
    for name, kind, units in items:
        own = [line for line in lines if line.name == name]
        if not own:
            merged.append((name, kind, units))
            continue
        fitting = [line for line in own if not kind or line.type in (kind, "")]
        wanted = units
        for line in fitting:
            taken = min(wanted, left[id(line)])
            left[id(line)] -= taken
            wanted -= taken
            if taken:
                _add(merged, name, kind or line.type, taken)
        if wanted:
            asked = f"{kind_of(name, kind)}:{units}"
            where = f"{own[0].entry.file}:{own[0].entry.line}"
            found.error(
                node_line.file,
                node_line.at,
                "Gres",
                f"node {node}: Gres={asked}, but gres.conf has {units - wanted} ({where})",
                hint=f"write Gres={kind_of(name, kind)}:{units - wanted}, or correct gres.conf",
            )
            return None
    return merged


def _add(merged: list[Item], name: str, kind: str, units: int) -> None:
    if merged and merged[-1][:2] == (name, kind):
        merged[-1] = (name, kind, merged[-1][2] + units)
    else:
        merged.append((name, kind, units))
