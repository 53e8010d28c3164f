"""Which clause of a constraint no node, or too few nodes, can meet.  Counts kinds of nodes, so that a cluster of ten
thousand nodes with a few sets of features costs what a few nodes cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from helix.sched.chain import Chain, shortage
from helix.sched.explain import plural
from helix.sched.features import AllOf, AnyOf, Has, Not, Term, format_term, meets, names_in
from helixctld.core.nearest import did_you_mean

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
