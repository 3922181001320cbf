"""Combine sets of several studies into one book: chosen, weighed and judged as one more try."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from optimizer.catalogue import METRICS
from optimizer.errors import ExportError, StudyError
from optimizer.files import save
from optimizer.review.book import BookResult, simulate_book
from optimizer.review.exported import naming_export
from optimizer.selection.book import select_book
from optimizer.selection.members import choose_members
from optimizer.selection.record import Selection, load_selection
from optimizer.selection.shares import METHODS, Method, shares_by
from optimizer.selection.tried import everything_tried
from optimizer.selection.verdict import Verdict, judge
from optimizer.store.combination import Combination, Member, is_combination
from optimizer.store.completeness import missing_batch
from optimizer.store.export import content_of, plain_values, read_content
from optimizer.store.folder import StudyFolder
from optimizer.store.guards import check_output
from optimizer.store.ledger import note, note_look
from optimizer.store.query import best_sets, no_best, ranked
from optimizer.study_file.study import Study, recorded_study
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.sub_accounts import SCHEDULES, Schedule
from optimizer.text import list_text, quoted
from optimizer.types import Float32Array, FloatArray

FILE = "combination.json"
"""The file of a combination in the folder of a study, by default."""

FEWEST_BLOCKS = 4
"""With fewer blocks of bars a correlation says nothing."""


@dataclass(frozen=True, eq=False, repr=False)
class CombinedSets:
    """Sets of several studies that share the money of one account.

    >>> import optimizer
    >>> optimizer.combine(["out"], top=4, max_correlation=0.999, out="book.json")
    <CombinedSets: 4 of 4 sets in book.json; not distinguishable from luck>

    Attributes:
        path: its file.
        members: a row a member, best first: ``study`` (its folder), ``set``, ``strategy``, ``share`` (of
            the capital, a fraction), ``cash`` (money) and ``correlation``, the largest with the members
            before it, NaN for the first.
        n_candidates: sets among which they were chosen.
        result: what the members did together.
        selection: what the verdict rests on.
        verdict: whether it is luck or skill, given every set ever tried on these bars.
    """

    path: Path
    members: pd.DataFrame
    n_candidates: int
    result: BookResult
    selection: Selection
    verdict: Verdict

    def __repr__(self) -> str:
        """The combination in a line: number of sets, verdict and file."""
        return (
            f"<CombinedSets: {len(self.members)} of {self.n_candidates} sets in {self.path};"
            f" {self.verdict.words}>"
        )


@dataclass(frozen=True, eq=False)
class _Part:
    """A study whose sets are candidates."""

    folder: StudyFolder
    manifest: Mapping[str, Any]
    study: Study
    selection: Selection


def combine(
    folders: Sequence[str | os.PathLike[str]],
    *,
    top: int = 10,
    method: Method = "equal",
    max_correlation: float = 0.7,
    rebalance: Schedule = "never",
    out: str | Path | None = None,
    overwrite: bool = False,
    trust: bool = False,
) -> CombinedSets:
    """Combine the best sets of studies into one book whose sets trade in accounts of their own.

    The candidates are the best sets of each study. The best of all is taken, then each that is unlike
    all those taken before it. Choice and shares rest on in-sample returns alone, those over the blocks
    of bars that the studies keep. The whole is simulated, and judged by the verdict of a study: every
    set that the studies have tried counts as a try, and so does every combination. The verdict looks at
    the holdout of the whole, which the ledger counts.

    >>> import optimizer
    >>> found = optimizer.combine(["out"], top=4, max_correlation=0.999, out="book.json")
    >>> len(found.members), float(found.members["share"].sum())
    (4, 1.0)
    >>> optimizer.replay("book.json").differences
    ()

    Args:
        folders: the folders of one or more complete studies on the same bars, with the same costs,
            account and in-sample bars.
        top: number of sets of each study that are candidates, at most.
        method: how the capital is shared, see ``shares_by``; ``hrp`` and ``min_variance`` need the extra
            ``combine``.
        max_correlation: the largest correlation of the block returns of any two, -1 to 1.
        rebalance: when the accounts are brought back to their shares, see ``simulate_sub_accounts``.
        out: the file, which ends in .json; None takes ``combination.json`` in the first folder.
        overwrite: whether to replace what the file holds, where that is not this combination.
        trust: approve the strategy files that the folders name, for good.

    Returns:
        The combination, which the file holds.

    Raises:
        DataError: the bars cannot be used, or skfolio is not installed.
        ExportError: an argument cannot be used, fewer than two sets are left, or a set cannot be
            simulated.
        StudyError: a folder holds no study, one that is not complete, or one that differs from the first
            in what all must share; or the file exists and must not be replaced.
        UntrustedCodeError: you have neither run nor approved what the folders name.
    """
    _check_arguments(folders, top, method, max_correlation, rebalance)
    paths = list(dict.fromkeys(Path(os.path.realpath(one)) for one in folders))
    named = dict(zip(paths, (Path(one) for one in folders), strict=False))
    parts = [_part(named[path]) for path in paths]
    file = Path(out) if out is not None else parts[0].folder.path / FILE
    check_output(file, (".json",), "a combination")
    _refuse_unlike(parts, rebalance)
    # From here on nothing depends on the order in which the folders are named.
    parts.sort(key=lambda one: (one.study.space_hash, one.manifest["study_hash"]))
    rows, returns = _candidates(parts, top)
    chosen = choose_members(returns, max_correlation)
    if len(chosen) < 2:
        why = f"the others correlate by more than {max_correlation:g} with it, or never trade"
        raise ExportError(
            f"{list_text(map(str, named.values()))}: {len(chosen)} of {len(rows)} candidates left,"
            f" two are needed: {why if len(rows) > 1 else 'there are no others'}; raise --top"
            + (" or --max-correlation" if len(rows) > 1 else "")
        )
    shares = shares_by(method, returns[[place for place, _ in chosen]])
    taken = [
        (place, like, share) for (place, like), share in zip(chosen, shares, strict=True) if share
    ]
    if len(taken) < 2:
        raise ExportError(
            f"--method {method}: gives all the capital to one set; choose another method, or lower"
            " --max-correlation"
        )
    cash = float(parts[0].study.costs.initial_cash)
    members = []
    for place, like, share in taken:
        part, row = rows[place]
        export = _with_cash(content_of(part.folder, row, file), share * cash)
        members.append((part, like, share, export))
    with naming_export(file):
        pairs = [(export, share) for _, _, share, export in members]
        simulated = simulate_book(file, pairs, rebalance, None, trust)
    for (_, _, _, export), result in zip(members, simulated.alone, strict=True):
        _record(export, result)
    book = simulated.whole.result
    assert isinstance(book, BookResult)
    digest = _digest(members, rebalance, cash)
    if not overwrite:
        _refuse_to_replace(file, digest)
    name = f"combination-{digest[:8]}"
    first = parts[0]
    inputs = simulated.whole.inputs
    selection, draws = select_book(
        first.folder, first.study, inputs, book, [one.selection for one in parts], name, digest
    )
    combination = Combination(
        name=name,
        hash=digest,
        method=method,
        rebalance=rebalance,
        top=top,
        max_correlation=max_correlation,
        n_candidates=len(rows),
        initial_cash=cash,
        members=[
            Member(share=share, correlation=like, export=export)
            for _, like, share, export in members
        ],
        in_sample=_plain(book.in_sample),
        out_of_sample=None if book.out_of_sample is None else _plain(book.out_of_sample),
        selection=selection.to_dict(),
        studies=[[part.study.space_hash, part.manifest["data_hash"]] for part in parts],
    )
    _note(selection, draws)
    text = combination.text()
    save(file, lambda path: path.write_text(text, encoding="utf-8"))
    table = pd.DataFrame(
        {
            "study": [str(part.folder.path) for part, *_ in members],
            "set": [export["sets"][0]["set"] for *_, export in members],
            "strategy": [export["sets"][0]["strategy"] for *_, export in members],
            "share": [share for _, _, share, _ in members],
            "cash": [export["costs"]["initial_cash"] for *_, export in members],
            "correlation": [math.nan if like is None else like for _, like, _, _ in members],
        }
    )
    tried = everything_tried(selection, combination.searches)
    verdict = judge(selection, tried, len(members))
    return CombinedSets(file, table, len(rows), book, selection, verdict)


def _refuse_to_replace(file: Path, digest: str) -> None:
    """Refuse to replace anything but the same combination: it may be traded."""
    if not file.exists():
        return
    content: Any = None
    with contextlib.suppress(ExportError):
        content = read_content(file)
    if not is_combination(content) or content.get("hash") != digest:
        raise StudyError(
            f"{file}: exists, and is not this combination; give another --out, or --overwrite"
        )


def _check_arguments(
    folders: Sequence[Any], top: int, method: str, max_correlation: float, rebalance: str
) -> None:
    if isinstance(folders, str | os.PathLike):
        raise StudyError(f"combine: {folders}: name the folders in a list")
    if not len(folders):
        raise StudyError("combine: no folder; name those of one or more studies")
    if top < 1:
        raise ExportError(f"--top must be 1 or more, got {top}")
    if method not in METHODS:
        raise ExportError(f"--method: got {quoted(method)}; valid: {', '.join(METHODS)}")
    if not -1.0 <= max_correlation <= 1.0:
        raise ExportError(f"--max-correlation {max_correlation:g}; expected -1 to 1")
    if rebalance not in SCHEDULES:
        raise ExportError(f"--rebalance: got {quoted(rebalance)}; valid: {', '.join(SCHEDULES)}")


def _part(path: Path) -> _Part:
    """A study that has ended, with what it recorded about its choice."""
    folder = StudyFolder.open(path)
    folder.refuse_window("combine")
    manifest = folder.manifest()
    study = recorded_study(manifest["study"], manifest["study_folder"])
    if not manifest["complete"]:
        raise StudyError(
            f"{path}: not complete; end it with `barsweep resume {shlex.quote(str(path))}`"
        )
    if problem := missing_batch(folder, study, manifest):
        raise StudyError(problem)
    selection = load_selection(folder)
    if selection is None:
        raise StudyError(f"{path}: nothing to combine: {no_best(folder, study.search)}")
    return _Part(folder, manifest, study, selection)


def _shared(one: _Part) -> dict[str, Any]:
    """What all studies must share, by the words of a message."""
    manifest, study = one.manifest, one.manifest["study"]
    search, validation = one.study.search, one.study.validation
    return {
        "[data] symbols": list(manifest["symbols"]),
        "time of the first and the last bar": list(manifest["span"]),
        "bars (hash)": manifest["data_hash"],
        "other files (hash)": manifest["files_hash"],
        "[data] bars_per_year": manifest["bars_per_year"],
        "[costs]": study["costs"],
        "[account]": study["account"],
        "[instruments]": study["instruments"],
        "[search] returns": search.returns,
        "[search] objective": list(search.objective),
        "[search] direction": list(search.direction),
        "[search] tile_value": search.tile_value,
        "[validation] benchmark": validation.benchmark,
        "bar of the first decision": manifest["first_bar"],
        "first bar of the holdout": manifest["holdout_bar"],
        "blocks of in-sample bars": list(one.selection.block_bars),
    }


_FIXES = {
    "bar of the first decision": "give the longest lookback of each the same value, or run both"
    " strategies in one study",
    "blocks of in-sample bars": "give [validation] blocks the same value",
}


def _refuse_unlike(parts: Sequence[_Part], rebalance: Schedule) -> None:
    """Refuse studies that cannot share an account, or between whose sets no money can move."""
    first = parts[0]
    wanted = _shared(first)
    for part in parts[1:]:
        for key, value in _shared(part).items():
            if value != wanted[key]:
                fix = _FIXES.get(key, "run one of them again with that of the other")
                raise StudyError(
                    f"{part.folder.path} and {first.folder.path}: {key}: {_value(value)} and"
                    f" {_value(wanted[key])}; {fix}"
                )
    if len(first.selection.block_bars) < FEWEST_BLOCKS:
        raise StudyError(
            f"{first.folder.path}: {len(first.selection.block_bars)} blocks of in-sample bars say"
            f" nothing of correlations, {FEWEST_BLOCKS} are needed; give more bars, or raise"
            " [validation] blocks"
        )
    if rebalance != "never":
        for part in parts:
            if part.study.costs.fill == "close" or part.study.risk.entry != "market":
                key = '[costs] fill = "close"'
                if part.study.risk.entry != "market":
                    key = f"[risk] entry = {part.study.risk.entry}"
                raise StudyError(
                    f"{part.folder.path}: {key}: money moves by orders at the next open; combine with"
                    " --rebalance never"
                )


def _value(value: object) -> str:
    if isinstance(value, Mapping):
        value = json.dumps(value, default=str)
    if isinstance(value, str) and len(value) == 64:
        return value[:12]
    return quoted(value)


def _candidates(
    parts: Sequence[_Part], top: int
) -> tuple[list[tuple[_Part, pd.DataFrame]], FloatArray]:
    """The best sets of each study, best of all first, and their block returns."""
    rows: list[tuple[_Part, pd.DataFrame]] = []
    returns = []
    for part in parts:
        best = best_sets(part.folder, part.study.search, top)
        numbers = best["set"].tolist()
        returns.append(_block_returns(part.folder, numbers))
        rows += [(part, best.iloc[[place]]) for place in range(len(best))]
    search = parts[0].study.search
    columns = ["score", *search.objective]
    frame = pd.concat([row[columns] for _, row in rows], ignore_index=True)
    order = ranked(frame.assign(set=range(len(frame))), search)
    return [rows[place] for place in order], np.concatenate(returns)[order]


def _block_returns(folder: StudyFolder, numbers: Sequence[int]) -> FloatArray:
    """Returns of some sets over each in-sample block, (n_sets, n_blocks): sums of excess returns."""
    every = folder.column("set")
    kept = np.flatnonzero(np.isin(every, numbers)).tolist()
    places = {int(every[place]): place for place in kept}
    wanted = [places[number] for number in numbers]
    found: dict[int, FloatArray] = {}
    first = 0
    for _, moments in folder.moments():
        last = first + len(moments)
        found |= {place: moments[place - first, 0] for place in wanted if first <= place < last}
        first = last
    return np.stack([found[place] for place in wanted])


def _with_cash(export: dict[str, Any], cash: float) -> dict[str, Any]:
    """The export of one set with other money."""
    costs = {**export["costs"], "initial_cash": cash}
    (one,) = export["sets"]
    one = {**one, "terms": {**one["terms"], "costs": costs}}
    return {**export, "costs": costs, "sets": [one]}


def _record(export: dict[str, Any], result: BacktestResult) -> None:
    """Record what a set does with its money; its own part of the holdout stays sealed."""
    (one,) = export["sets"]
    one["in_sample"] = _plain(result.in_sample)
    one["out_of_sample"] = None


def _plain(metrics: Mapping[str, float]) -> dict[str, Any]:
    return {name: plain_values(metrics[name]) for name in METRICS}


def _digest(
    members: Sequence[tuple[_Part, float | None, float, Mapping[str, Any]]],
    rebalance: Schedule,
    cash: float,
) -> str:
    """The hash of a combination: the same sets with the same shares are the same try."""
    seen = [
        (
            part.study.space_hash,
            *(export["sets"][0][name] for name in ("strategy", "classifier", "parameters")),
            share,
        )
        for part, _, share, export in members
    ]
    text = json.dumps([sorted(seen, key=str), rebalance, cash], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _note(selection: Selection, draws: Float32Array) -> None:
    """Note the try and the look in the ledger, before anybody sees the figures."""
    try:
        if selection.search is not None:
            note(selection.search, draws)
        if selection.look is not None:
            note_look(selection.look)
    except StudyError as error:
        logging.getLogger("barsweep").warning("%s; this combination is not in it", error)
