"""What the entries of the ledger say: searches, looks at holdouts, and what was set aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from optimizer.store.validated import Count, Digest, Name, PathText
from optimizer.study_file.study import Study
from optimizer.types import Bars, Float32Array, TimeArray

ALIKE = 1.5
"""Bars are of one size if the one is shorter than this many times the other."""

Why = Literal["verdict", "unsealed"]
"""Why a holdout was looked at."""

_Nanoseconds = Annotated[int, Field(ge=-(2**63), lt=2**63)]


@dataclass(frozen=True)
class OnBars:
    """What an entry of a study says of its bars.

    Attributes:
        study_hash: hash of the study's space, see ``Study.space_hash``.
        data_hash: content hash of the bars.
        study: name of the study.
        data: path of the bars when the study last ran.
        symbols: the symbols of the bars.
        bar_ns: size of a bar.
        start_ns, stop_ns: times of the first and the last bar that it is about, since 1970.
    """

    study_hash: Digest
    data_hash: Digest
    study: PathText
    data: PathText
    symbols: Annotated[tuple[Name, ...], Field(min_length=1)]
    bar_ns: Annotated[int, Field(ge=1, lt=2**63)]
    start_ns: _Nanoseconds
    stop_ns: _Nanoseconds

    def overlaps(self, other: OnBars) -> bool:
        """Whether both are about some bars of the same size, symbol and time.

        Args:
            other: another entry.
        """
        return (
            self.bar_ns < ALIKE * other.bar_ns
            and other.bar_ns < ALIKE * self.bar_ns
            and not set(self.symbols).isdisjoint(other.symbols)
            and self.start_ns <= other.stop_ns
            and other.start_ns <= self.stop_ns
        )


def on_bars(study: Study, bars: Bars, first: int, last: int) -> dict[str, Any]:
    """What an entry of a study says of some of its bars, by the attributes of ``OnBars``.

    Args:
        study: the study.
        bars: the bars of the study.
        first, last: the first and the last bar that the entry is about.
    """
    return {
        "study_hash": study.space_hash,
        "data_hash": bars.content_hash,
        "study": study.name,
        "data": str(study.data_path),
        "symbols": bars.symbols,
        "bar_ns": bar_size(bars.timestamps),
        "start_ns": nanoseconds(bars.timestamps[first]),
        "stop_ns": nanoseconds(bars.timestamps[last]),
    }


def nanoseconds(time: Any) -> int:
    """A time as the ledger has it, since 1970.

    Args:
        time: what NumPy takes for a time.
    """
    return int(np.datetime64(time, "ns").astype(np.int64))


@dataclass(frozen=True)
class Search(OnBars):
    """What one study has tried on some bars, those in-sample.

    Attributes:
        n_sets: distinct sets tried.
    """

    n_sets: Count

    @property
    def key(self) -> tuple[str, str]:
        """What the entries of one study on the same bars share."""
        return self.study_hash, self.data_hash


@dataclass(frozen=True)
class Look(OnBars):
    """One look at the holdout of a study.

    Attributes:
        why: ``verdict``, which looks at the winner alone, or ``unsealed``, which opens it for all sets.
        seen: hash of the parameters of the set that the verdict looked at; empty for an unsealing.
    """

    why: Why
    seen: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""

    @property
    def key(self) -> tuple[str, str]:
        """What two looks of verdicts share that saw the same set of the same study."""
        return self.study_hash, self.seen


@dataclass(frozen=True)
class SetAside:
    """An entry that is no longer to be corrected for.

    Attributes:
        entry: number of the entry of a search or a look.
        reason: why.
    """

    entry: Count
    reason: PathText


@dataclass(frozen=True, eq=False)
class Entry:
    """One entry.

    Attributes:
        number: the number of the entry, from 1.
        time: when it was added, UTC, to the second.
        what: what it says.
        maxima: (n_draws,), largest draws of a search; empty where it had no max-test.
        hash: SHA-256 of the entry and of the hash of the one before.
    """

    number: int
    time: str
    what: Search | Look | SetAside
    maxima: Float32Array
    hash: str


@dataclass(frozen=True)
class Ledger:
    """All entries.

    Attributes:
        entries: all entries in the order in which they were added.
        broken: number of the first entry that is not as it was written, or that follows one that is
            gone; None if there is none.
    """

    entries: tuple[Entry, ...]
    broken: int | None = None

    def set_aside(self) -> dict[int, SetAside]:
        """What was set aside, by the number of the entry."""
        return {one.what.entry: one.what for one in self.entries if isinstance(one.what, SetAside)}

    def searches(self) -> list[tuple[Entry, Search]]:
        """The last entry of each study on each bars, in order, unless it was set aside."""
        last = {
            one.what.key: (one, one.what) for one in self.entries if isinstance(one.what, Search)
        }
        aside = self.set_aside()
        return sorted(
            ((entry, search) for entry, search in last.values() if entry.number not in aside),
            key=lambda pair: pair[0].number,
        )

    def overlapping(self, own: Search) -> list[tuple[Entry, Search]]:
        """The searches of other studies whose bars overlap with those of one study.

        Args:
            own: the search of that study.

        Returns:
            Those of ``searches``.
        """
        return [
            (entry, search)
            for entry, search in self.searches()
            if search.key != own.key and search.overlaps(own)
        ]

    def looks(self) -> list[tuple[Entry, Look]]:
        """Every look at a holdout, in order, unless it was set aside."""
        aside = self.set_aside()
        return [
            (one, one.what)
            for one in self.entries
            if isinstance(one.what, Look) and one.number not in aside
        ]

    def other_looks(self, own: Look) -> list[tuple[Entry, Look | Search]]:
        """Everything else that has seen bars of a holdout.

        Looks at the holdouts of studies, this one's unsealing among them, and searches over bars of which
        some are in it: whoever searched them has seen them. A study that runs again whenever there is a
        new bar, and has the same winner each time, has looked once.

        Args:
            own: the look of the verdict, which is left out.

        Returns:
            The entries in order; the same in whichever order the studies ran.
        """
        found: list[tuple[Entry, Look | Search]] = []
        seen = {own.key}
        for entry, look in self.looks():
            again = look.why == "verdict" and look.key in seen
            if look.overlaps(own) and not again:
                seen.add(look.key)
                found.append((entry, look))
        found += [(entry, search) for entry, search in self.searches() if search.overlaps(own)]
        return sorted(found, key=lambda pair: pair[0].number)


def bar_size(times: TimeArray) -> int:
    """The usual time between two bars, in nanoseconds.

    Args:
        times: (n_bars,), ascending; two or more.
    """
    return max(int(np.median(np.diff(times.astype("datetime64[ns]").astype(np.int64)))), 1)
