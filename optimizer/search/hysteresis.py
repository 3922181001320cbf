"""Whether a new set takes the place of the one that is traded: by the study's own rule, and a margin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from optimizer.catalogue import METRICS
from optimizer.search.objective import score_tile
from optimizer.study_file.search_tables import SearchTable
from optimizer.text import list_text

MARGIN = 0.1
"""Default margin: a tenth of the value of the set that is traded.

The new set is the best of many on the very bars on which both are compared, so it leads by luck alone
even where nothing has changed, and each change costs what both sets do not hold in common. How often
random walks change a set at several margins is in the repository's ``benchmarks/README.md``.
"""


@dataclass(frozen=True)
class Standing:
    """A set as the study judges it on one window, in-sample.

    Attributes:
        values: the value of each objective; None where undefined.
        broken: the constraints on results that it breaks.
    """

    values: tuple[float | None, ...]
    broken: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        search: SearchTable,
        parameters: Mapping[str, float],
        metrics: Mapping[str, float | None],
    ) -> Standing:
        """The standing of a set.

        Each set counts by itself: what ``tile_value`` takes of its neighbours has had its say in the
        choice of the new one.

        Args:
            search: objectives, directions and constraints of the study.
            parameters: parameters of the set by column.
            metrics: its metrics in-sample by name; None where undefined.
        """
        row = np.array([[metrics[name] for name in METRICS]], dtype=np.float64)
        alone = search.model_copy(update={"tile_value": "best"})
        columns = {name: np.array([value]) for name, value in parameters.items()}
        found = score_tile(alone, columns, row, {})
        if found.values is None:
            return cls((None,) * len(search.objective))
        return cls(found.values, tuple(name for name, by in found.violations.items() if by > 0.0))


@dataclass(frozen=True)
class Decision:
    """What becomes of the set that is traded.

    Attributes:
        changed: whether the new one takes its place.
        why: the reason in words.
    """

    changed: bool
    why: str


def decide(search: SearchTable, old: Standing | None, new: Standing, margin: float) -> Decision:
    """Decide between two sets on the same window.

    The new set must be better by more than ``margin`` times the absolute value of the old one. With
    several objectives it must be so in more of them than it is worse by as much, which is the mean rank
    over two sets, with ties within the margin.

    Args:
        search: objectives, directions and constraints of the study.
        old: the set that is traded; None where there is none.
        new: the best set of the window, which is feasible.
        margin: a fraction, 0 or more.

    Returns:
        Whether the new set takes the place of the old one, and why.
    """
    if old is None:
        return Decision(True, "no set was traded before")
    if None in old.values:
        names = list_text(search.objective)
        return Decision(True, f"the old set has no {names} on these bars")
    if old.broken:
        return Decision(True, f"the old set breaks {list_text(old.broken)} on these bars")
    points, parts = 0, []
    for name, direction, a, b in zip(
        search.objective, search.direction, old.values, new.values, strict=True
    ):
        assert a is not None and b is not None
        gain = b - a if direction == "maximize" else a - b
        least = margin * abs(a)
        points += (gain > least) - (gain < -least)
        word = "better" if gain > 0.0 else "worse" if gain < 0.0 else "the same"
        beyond = "more" if abs(gain) > least else "not more"
        parts.append(
            f"{name} {b:.4g} against {a:.4g}: {word}"
            + (f" by {abs(gain):.4g}, {beyond} than the margin of {least:.4g}" if gain else "")
        )
    return Decision(points > 0, "; ".join(parts))
