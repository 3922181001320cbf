"""The file of a combination: several sets that share the money of one account."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError

from optimizer.errors import ExportError
from optimizer.store.export import checked_export
from optimizer.store.names import SCHEMA_VERSION
from optimizer.store.validated import Count, Digest, Name, Number, Record, problem_of
from optimizer.sweep.sub_accounts import Rebalancing, Schedule

KIND = "barsweep combination"

_AGAIN = "combine the studies again"

_MOST = 10_000
"""Most members of a combination."""

_Metrics = dict[Name, Number | bool | None]


class Member(Record):
    """A set of a combination.

    Attributes:
        share: its share of the capital, a fraction.
        correlation: the largest correlation of its in-sample block returns with those of the members
            before it; None for the first.
        export: the export of this one set, whose money is its share.
    """

    share: Annotated[float, Field(gt=0.0, le=1.0)]
    correlation: Annotated[float, Field(ge=-1.0, le=1.0)] | None
    export: dict[str, Any]


class Combination(Record):
    """What the file of a combination says.

    Attributes:
        name: its name.
        hash: the hash of its members, their shares and the schedule.
        method: how the shares were found.
        rebalance: the schedule on which money moves between the members.
        top: best sets of each study that were candidates.
        max_correlation: largest correlation between two members.
        n_candidates: candidates.
        initial_cash: money of the whole.
        members: the members, best first.
        in_sample, out_of_sample: metrics of the whole; the latter None without a holdout.
        selection: what the verdict rests on, see ``optimizer.selection.record.Selection``.
        studies: hashes of the space and of the bars of each study, by which the ledger knows it.
    """

    name: Name
    hash: Digest
    method: Literal["equal", "inverse_volatility", "hrp", "min_variance"]
    rebalance: Schedule
    top: Count
    max_correlation: Annotated[float, Field(ge=-1.0, le=1.0)]
    n_candidates: Count
    initial_cash: Annotated[float, Field(gt=0.0, le=1e300)]
    members: Annotated[list[Member], Field(min_length=2, max_length=_MOST)]
    in_sample: _Metrics
    out_of_sample: _Metrics | None
    selection: dict[str, Any]
    studies: Annotated[
        list[Annotated[list[Digest], Field(min_length=2, max_length=2)]],
        Field(min_length=1, max_length=_MOST),
    ]

    @property
    def rebalancing(self) -> Rebalancing:
        """How the accounts of the members are brought back to their shares."""
        return Rebalancing(np.array([one.share for one in self.members]), self.rebalance)

    @property
    def searches(self) -> list[tuple[str, str]]:
        """The keys of the searches of the studies, see ``optimizer.store.ledger_entries.Search``."""
        return [(space, bars) for space, bars in self.studies]

    def text(self) -> str:
        """The content of the file."""
        head = {"kind": KIND, "schema_version": SCHEMA_VERSION}
        return json.dumps({**head, **self.model_dump()}, indent=1, allow_nan=False) + "\n"


def is_combination(content: Any) -> bool:
    """Whether what a file holds says that it is a combination.

    Args:
        content: whatever was read.
    """
    return isinstance(content, Mapping) and content.get("kind") == KIND


def checked_combination(content: Mapping[str, Any], file: Path) -> Combination:
    """Check what the file of a combination holds.

    Args:
        content: what was read.
        file: the file, for messages.

    Returns:
        The combination; the export of each member is one.

    Raises:
        ExportError: a value is missing or of the wrong kind; names the file and the key.
    """
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ExportError(
            f"{file}: schema_version: got {content.get('schema_version')!r}; this barsweep reads"
            f" {SCHEMA_VERSION}: {_AGAIN}"
        )
    try:
        found = Combination.model_validate(content)
    except ValidationError as error:
        raise ExportError(f"{file}: {problem_of(error)}; {_AGAIN}") from None
    total = math.fsum(one.share for one in found.members)
    if not math.isclose(total, 1.0, abs_tol=1e-9):
        raise ExportError(f"{file}: members share: add up to {total:.10g}, not to 1; {_AGAIN}")
    for place, one in enumerate(found.members, 1):
        checked_export(one.export, Path(f"{file}: members #{place} export"))
    return found


def member_content(file: Path, content: Mapping[str, Any], number: int | None) -> dict[str, Any]:
    """The export of one member.

    Args:
        file: the file of the combination.
        content: what it holds.
        number: the place of the member, from 1.

    Raises:
        ExportError: the file cannot be used, no member was named, or there is none of that number.
    """
    members = checked_combination(content, file).members
    if number is None:
        raise ExportError(
            f"{file}: a combination of {len(members)} sets, each with an account of its own, and this"
            f" takes one set: name it with --set 1 to --set {len(members)}"
        )
    if not 1 <= number <= len(members):
        raise ExportError(
            f"{file}: members: has {len(members)}, asked for number {number}; --set counts from 1"
        )
    return members[number - 1].export
