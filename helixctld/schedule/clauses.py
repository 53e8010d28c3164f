"""Which clause of a constraint or a condition no node, or too few nodes, can meet.

Features are counted by kinds of nodes, so that a cluster of ten thousand nodes with a few sets of features costs what
a few nodes cost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from helix.expression import Clause
from helix.sched.chain import Chain, shortage
from helix.sched.explain import plural
from helix.sched.features import AllOf, AnyOf, Has, Not, Term, format_term, meets, names_in, parse_preference
from helix.sched.request import Request
from helix_native.arrays import Flags
from helixctld.core.nearest import did_you_mean
from helixctld.schedule.node_attributes import NodeAttributes
from helixctld.schedule.node_columns import NodeColumns

Words = tuple[str, str]  #: a line that names the clause, and a hint or ""
SHOWN_MAX = 3  #: alternatives, and terms of a clause, that are spelled out


class Clauses:
    """Looks at nodes with these features; `where` names them: `partition main`."""

    def __init__(self, features: Iterable[tuple[str, ...]], known: Iterable[str], where: str) -> None:
        """`known`: all features there are, for hints."""
        self.kinds = Counter(frozenset(each) for each in features)
        self.known = sorted(set(known))
        self.where = where

    def blame(self, chains: tuple[Chain, ...]) -> Words | None:
        """Why none of the chains can find its nodes; None if one can, as far as features go."""
        found: list[tuple[Chain, Words]] = []
        for chain in chains:
            words = self._chain(chain)
            if words is None:
                return None
            found.append((chain, words))
        if len(found) == 1:
            return found[0][1]
        shown = "; ".join(f"'{_chain_text(chain)}': {words[0]}" for chain, words in found[:SHOWN_MAX])
        more = f"; and {len(found) - SHOWN_MAX} more" if len(found) > SHOWN_MAX else ""
        hint = next((words[1] for _, words in found if words[1]), "")
        return f"none of the {len(found)} alternatives can be met: {shown}{more}", hint

    def _chain(self, chain: Chain) -> Words | None:
        for part in chain:
            words = self.term(part.constraint, part.nodes_lo)
            if words is not None:
                return words
        if len(chain) == 1:
            return None
        classes = [(count, [meets(kind, part.constraint) for part in chain]) for kind, count in self.kinds.items()]
        short = shortage([part.nodes_lo for part in chain], classes)
        if short is None:
            return None
        parts, able = short
        names = " and ".join(f"'{_part_text(chain, at)}'" for at in parts)
        asked = sum(chain[at].nodes_lo for at in parts)
        return f"{names} ask for {asked} different nodes; {plural(able, 'node')} of {self.where} can be one of them", ""

    def count(self, term: Term) -> int:
        """Nodes that meet the term."""
        return sum(count for kind, count in self.kinds.items() if meets(kind, term))

    def term(self, term: Term, asked: int) -> Words | None:
        """The innermost clause that fewer than `asked` nodes meet; None if enough meet the term."""
        have = self.count(term)
        if have >= asked:
            return None
        match term:
            case Has(name):
                if not have:
                    hint = "" if name in self.known else did_you_mean(name, self.known)
                    return f"no node of {self.where} has feature '{name}'", hint
                return f"{self._few(have)} '{name}', {asked} asked", ""
            case Not(inner):
                if not have:
                    return (
                        f"every node of {self.where} meets '{format_term(inner)}', which '{format_term(term)}' bars",
                        "",
                    )
            case AllOf(terms):
                for inner in terms:
                    words = self.term(inner, asked)
                    if words is not None:
                        return words
                each = ", ".join(f"{self.count(inner)} meet '{format_term(inner)}'" for inner in terms[:SHOWN_MAX])
                if not have:
                    return f"no node of {self.where} meets '{format_term(term)}' as a whole ({each})", ""
                return f"{self._few(have)} '{format_term(term)}', {asked} asked ({each})", ""
            case AnyOf(terms):
                if not have:
                    unknown = next((name for name in names_in(term) if name not in self.known), "")
                    hint = did_you_mean(unknown, self.known) if unknown else ""
                    return f"no node of {self.where} meets '{format_term(term)}'", hint
        return f"{self._few(have)} '{format_term(term)}', {asked} asked", ""

    def _few(self, have: int) -> str:
        return f"at most {plural(have, 'node')} of {self.where} {'has' if have == 1 else 'have'}"


def _part_text(chain: Chain, at: int) -> str:
    term = format_term(chain[at].constraint) or "any"
    return f"{term}*{chain[at].nodes_lo}" if len(chain) > 1 else term


def _chain_text(chain: Chain) -> str:
    return "&".join(_part_text(chain, at) for at in range(len(chain)))


def blame_constraint(nodes: NodeColumns, request: Request, among: Flags, where: str) -> Words | None:
    """Why the constraint leaves too few of the nodes `among`; None if features are not the reason."""
    features = [tuple(nodes.records[at].features) for at in np.flatnonzero(among).tolist()]
    chains = tuple(chain for chain in request.chains if not chain[0].soft)
    return Clauses(features, nodes.by_feature(), where).blame(chains)


def blame_preference(nodes: NodeColumns, text: str) -> Words | None:
    """Why no node of the cluster has what --prefer names; None if one has."""
    preferred = parse_preference(text)
    if preferred is None:
        return None
    found = Clauses((tuple(node.features) for node in nodes.records), nodes.by_feature(), "the cluster")
    blames = [found.term(alternative.every, 1) for alternative in preferred.alternatives]
    return None if None in blames else blames[0]


def blame_condition(attributes: NodeAttributes, text: str, asked: int, among: Flags, where: str) -> Words | None:
    """Why `--require` leaves fewer than `asked` of the nodes `among`; None if it leaves enough."""
    if int((attributes.satisfying(text) & among).sum()) >= asked:
        return None
    clauses = attributes.condition(text).clauses
    counts = [int((attributes.clause(clause) & among).sum()) for clause in clauses]
    least = min(range(len(clauses)), key=lambda at: counts[at])
    if counts[least] < asked or len(clauses) == 1:
        return _few_meet(attributes, clauses[least], counts[least], asked, among, where), ""
    each = ", ".join(
        f"{count} meet '{clause.text}'" for clause, count in zip(clauses[:SHOWN_MAX], counts, strict=False)
    )
    have = int((attributes.satisfying(text) & among).sum())
    if not have:
        return f"no node of {where} meets all of --require ({each})", ""
    return f"at most {plural(have, 'node')} of {where} meet all of --require, {asked} asked ({each})", ""


def _few_meet(attributes: NodeAttributes, clause: Clause, have: int, asked: int, among: Flags, where: str) -> str:
    if have:
        return f"at most {plural(have, 'node')} of {where} meet '{clause.text}' (--require), {asked} asked"
    miss = nearest_miss(attributes, clause, among)
    return f"no node of {where} meets '{clause.text}' (--require)" + (f"; {miss}" if miss else "")


def nearest_miss(attributes: NodeAttributes, clause: Clause, among: Flags) -> str:
    """`the nearest, n3, has memory 32768`, for a comparison of an attribute with a number; otherwise ""."""
    program = clause.program[:-1] if clause.program[-1].code == "not" else clause.program
    if len(program) != 3 or program[-1].code not in ("==", "<", "<=", ">", ">="):
        return ""
    loads = [op.value for op in program if op.code == "load"]
    numbers = [op.value for op in program if op.code == "push" and isinstance(op.value, float)]
    if len(loads) != 1 or len(numbers) != 1:
        return ""
    rows = np.flatnonzero(among).tolist()
    known = [
        (abs(value - numbers[0]), row, value) for row in rows if (value := attributes.number(loads[0], row)) is not None
    ]
    if not known:
        return f"'{loads[0]}' is not known of any of them"
    _, row, value = min(known)
    return f"the nearest, {attributes.nodes.names[row]}, has {loads[0]} {value:.12g}"
