"""Words that the text and the page of a run share."""

from __future__ import annotations


def yielded_words(cut: dict[str, int]) -> str:
    """What preemption and time slices came to, in words."""
    return (
        f"{cut['preempted']} times: {cut['requeued']} requeued, {cut['cancelled']} cancelled, "
        f"{cut['suspended']} suspended; {cut['lost_cpu_s']} CPU seconds of work lost; "
        f"{cut['slices']} ends of time slices; {cut['suspended_s']} s suspended in all"
    )
