"""Studies seen from outside: which there are, one set in full, two side by side, a notebook's view."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd

from optimizer.backtest import BacktestResult, backtest
from optimizer.catalogue import METRICS, STRATEGIES
from optimizer.config import Study, study_from_dict
from optimizer.errors import BarsweepError, StudyError, counted
from optimizer.export import set_document
from optimizer.ledger import n_tried
from optimizer.results import best_sets, cell, no_best, ranked
from optimizer.selection import (
    Selection,
    SetStatistics,
    Verdict,
    deflated,
    judge,
    load_selection,
    set_statistics,
)
from optimizer.settings import show
from optimizer.space import build_space
from optimizer.store import MANIFEST, OUT_OF_SAMPLE, StudyFolder, is_in_use

SHOWN = ("sharpe", "cagr", "max_drawdown", "n_trades")
"""Metrics that tables show, in-sample beside out-of-sample."""

State = Literal["complete", "running", "stopped", "unreadable"]


@dataclass(frozen=True)
class StudySummary:
    """One study in a line.

    Attributes:
        path: its folder.
        name: of the study.
        state: ``running`` where a process works in the folder, ``stopped`` where ``barsweep resume``
            would go on, ``unreadable`` where ``problem`` says why.
        n_sets: parameter sets evaluated.
        objective: the first that it searched by.
        best, best_out_of_sample: that metric of the best set; None where there is none.
        verdict: in words; None before the end, or where no set is feasible.
        when: its files were last written, UTC.
        problem: why it cannot be read.
    """

    path: Path
    name: str
    state: State
    n_sets: int = 0
    objective: str = ""
    best: float | None = None
    best_out_of_sample: float | None = None
    verdict: str | None = None
    when: datetime | None = None
    problem: str = ""


@dataclass(frozen=True)
class SetRecord:
    """One parameter set in full.

    Attributes:
        number, trial: of the set.
        strategy, classifier: names.
        feasible: whether it keeps the study's constraints.
        score: by which its tile was judged; None where undefined.
        parameters: all that it has, by column.
        in_sample, out_of_sample: metrics, None where undefined; the latter None without a holdout.
        odds: None where the study has not come to its end.
    """

    number: int
    trial: int
    strategy: str
    classifier: str
    feasible: bool
    score: float | None
    parameters: Mapping[str, Any]
    in_sample: Mapping[str, Any]
    out_of_sample: Mapping[str, Any] | None
    odds: SetStatistics | None


@dataclass(frozen=True)
class Crossed:
    """The best set of one study under the rules of another on the same bars.

    Attributes:
        number: of the set, in the study that it is the best of.
        found: its number in the other study; None where that did not try it.
        rank: there, 1 being the best feasible set; None where it is not feasible or was not tried.
        in_sample, out_of_sample: metrics under the other's costs and holdout: recorded where it was
            tried, else simulated now.
        problem: why there are none.
    """

    number: int
    found: int | None = None
    rank: int | None = None
    in_sample: Mapping[str, Any] | None = None
    out_of_sample: Mapping[str, Any] | None = None
    problem: str = ""


@dataclass(frozen=True)
class Comparison:
    """Two studies side by side.

    Attributes:
        first, second: their summaries.
        study_differences: key of the study file, value in the first, value in the second.
        data_differences: the same of the bars; empty where they are the same.
        first_in_second, second_in_first: the best set of one in the other; None where the bars
            differ or there is no best set.
    """

    first: StudySummary
    second: StudySummary
    study_differences: tuple[tuple[str, Any, Any], ...]
    data_differences: tuple[tuple[str, Any, Any], ...]
    first_in_second: Crossed | None
    second_in_first: Crossed | None


# --- Verdict and summaries ----------------------------------------------------------------------


class Judged(NamedTuple):
    """What can be said of a study's best sets, given all that was ever tried on its bars.

    Attributes:
        selection: with the odds deflated so; None before the end, or where no set is best.
        verdict: on the winner; None likewise.
        problem: why the study's own sets alone count; empty where they do not.
    """

    selection: Selection | None
    verdict: Verdict | None
    problem: str = ""


def judged(folder: StudyFolder) -> Judged:
    """A study's best sets and the verdict, deflated by all sets that the ledger has for its bars.

    Raises:
        StudyError: the folder cannot be read.
    """
    selection = load_selection(folder)
    if selection is None:
        return Judged(None, None)
    manifest = folder.manifest()
    study = study_from_dict(manifest["study"], manifest.get("study_folder", "."))
    tried, problem = 0, ""
    try:
        tried = n_tried(manifest["data_hash"], study.space_hash, selection.n_tried)
    except StudyError as error:
        problem = f"{error}; counted are this study's sets alone"
    return Judged(deflated(selection, tried), judge(selection, tried), problem)


def list_studies(folder: str | Path = "out") -> list[StudySummary]:
    """The studies in a folder and in those below it, by time.

    Raises:
        StudyError: there is no such folder.
    """
    root = Path(folder)
    if not root.is_dir():
        raise StudyError(f"{root}: no such folder; name the one that holds studies")
    found = [summarize(path) for path in _study_folders(root)]
    return sorted(found, key=lambda one: (one.when or datetime.min.replace(tzinfo=UTC), one.path))


def _study_folders(root: Path) -> Iterator[Path]:
    for path, below, files in os.walk(root):
        if MANIFEST in files:
            below.clear()  # what lies in a study is its own
            yield Path(path)
        below.sort()


def summarize(folder: str | Path) -> StudySummary:
    """One study in a line; one that cannot be read says why in ``problem``."""
    path = Path(folder)
    try:
        opened = StudyFolder.open(path)
        manifest = opened.manifest()
        study = study_from_dict(manifest["study"])
        objective = study.search.objective[0]
        complete, written = manifest["complete"], opened.batch_paths()
        best = best_sets(opened, study.search, 1) if written else pd.DataFrame()
        row = {} if best.empty else best.to_dict("records")[0]
        verdict = judged(opened).verdict
        latest = max(one.stat().st_mtime for one in (opened.manifest_path, *written))
        return StudySummary(
            path,
            study.name,
            "complete" if complete else "running" if is_in_use(path) else "stopped",
            opened.n_sets(),
            objective,
            known(row.get(objective)),
            known(row.get(f"oos_{objective}")),
            verdict.words if verdict is not None else None,
            datetime.fromtimestamp(latest, UTC),
        )
    except (BarsweepError, KeyError, TypeError, OSError) as error:
        problem = f"{error!r} is missing" if isinstance(error, KeyError) else str(error)
        return StudySummary(path, path.name, "unreadable", problem=problem)


def known(value: Any) -> float | None:
    """A number, or None for what is undefined."""
    return None if value is None or pd.isna(value) else float(value)


# --- One set ------------------------------------------------------------------------------------


def set_record(folder: str | Path, number: int) -> SetRecord:
    """One parameter set of a study in full.

    Raises:
        StudyError: there is no study, or no such set in it.
    """
    opened = StudyFolder.open(Path(folder))
    if not opened.batch_paths():
        raise StudyError(f"{opened.path}: no results yet")
    manifest = opened.manifest()
    n_sets = opened.n_sets()
    if not 0 <= number < n_sets:
        raise StudyError(f"{folder}: no parameter set {number}; it has 0 to {n_sets - 1}")
    row = opened.sets([number]).to_dict("records")[0]
    document = set_document(row, manifest["study"])
    selection, verdict, _ = judged(opened)
    odds = None
    if selection is not None and verdict is not None:
        n_holdout = manifest["n_bars"] - manifest["holdout_bar"]
        odds = set_statistics(selection, row, n_holdout, verdict.n_tried)
    return SetRecord(
        number,
        document["trial"],
        document["strategy"],
        document["classifier"],
        bool(row["feasible"]),
        known(row["score"]),
        document["parameters"],
        document["in_sample"],
        document["out_of_sample"],
        odds,
    )


def open_positions(folder: str | Path, number: int) -> dict[str, float]:
    """Positions that one parameter set of a study holds after the last bar, simulated anew.

    Returns:
        Signed units by symbol.

    Raises:
        StudyError: there is no study, no such set in it, the simulation differs from what is
            recorded, or its strategy is a user's, whose code is not run to show a set.
        DataError: the bars cannot be used.
    """
    opened = StudyFolder.open(Path(folder))
    manifest = opened.manifest()
    document = set_document(opened.sets([number]).to_dict("records")[0], manifest["study"])
    result = _again(document, opened)
    if result.in_sample["final_equity"] != document["in_sample"]["final_equity"]:
        raise StudyError("a simulation now differs from what is recorded")
    return result.open_positions


# --- Tables of sets -----------------------------------------------------------------------------


def set_rows(
    frame: pd.DataFrame, study: Study, selection: Selection | None, more: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """A table of sets: each metric as in-sample / out-of-sample, the odds, what differs.

    Args:
        frame: rows of the study's results.
        study: of them.
        selection: of the study, for the odds of its best sets, see ``judged``.
        more: metrics to show in the place of some of the usual ones.

    Returns:
        The titles, of one or two lines, and the cells of each row; the last one is of buying and
        holding, where the study has come to its end.
    """
    metrics = [*dict.fromkeys((*study.search.objective, *more, *SHOWN))]
    if more:
        metrics = metrics[: max(len({*study.search.objective, *more}), len(SHOWN))]
    branches = build_space(study).branches
    varying = {
        "strategy",
        "classifier",
        *(name for branch in branches for name in branch.swept),
        *(one.name for branch in branches for one in branch.searched),
    }
    names = [
        name for name in frame.columns if name in varying and frame[name].nunique(dropna=False) > 1
    ]
    here = set(frame["set"])
    known_odds = selection.sets if selection is not None else ()
    odds = {one.number: one for one in known_odds if one.number in here}
    titles = ["set", *(f"{name.replace('_', ' ')}\nin / out" for name in metrics)]
    if odds:
        titles += ["not luck\nDSR", "gain is real\nPSR in / out"]
    titles.append("what differs between these sets" if len(frame) > 1 else "")
    rows = []
    for row in frame.to_dict("records"):
        cells = [f"{cell(row[name])} / {cell(row[f'oos_{name}'])}" for name in metrics]
        given = (
            f"{name.removeprefix(str(row['strategy']) + '_')} {cell(row[name])}"
            for name in names
            if cell(row[name]) != "-"
        )
        if odds:
            one = odds.get(row["set"])
            cells += (
                ["-", "-"]
                if one is None
                else [cell(one.dsr), f"{cell(one.psr)} / {cell(one.oos_psr)}"]
            )
        rows.append([str(row["set"]), *cells, ", ".join(given)])
    if selection is not None and selection.held is not None:
        inside, beside = selection.held.in_sample, selection.held.out_of_sample
        cells = [f"{cell(inside.get(name))} / {cell(beside.get(name))}" for name in metrics]
        rows.append(["-", *cells, *(["-", "-"] if odds else []), "buy and hold, without costs"])
    return titles, rows


COLORS = {"holds up": "#1a7f37", "fragile": "#9a6700", "likely luck": "#cf222e"}


def study_html(folder: StudyFolder, top: int = 10) -> str:
    """The best sets of a study and the verdict as a piece of HTML.

    Raises:
        StudyError: the study cannot be read.
    """
    study = study_from_dict(folder.manifest()["study"])
    title = f"<b>{html.escape(study.name)}</b>: {counted(folder.n_sets(), 'parameter set')}"
    if study.costs.fill == "close":
        title += '; <code>fill = "close"</code>, which is optimistic'
    frame = best_sets(folder, study.search, top) if folder.batch_paths() else pd.DataFrame()
    if frame.empty:
        why = no_best(folder, study.search) if folder.batch_paths() else "none evaluated yet"
        return f"<p>{title}; {html.escape(why)}</p>"
    selection, verdict, _ = judged(folder)
    titles, rows = set_rows(frame, study, selection)
    head = "".join(f"<th>{html.escape(one).replace(chr(10), '<br>')}</th>" for one in titles)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(one)}</td>' for one in row)}</tr>" for row in rows
    )
    words = ""
    if verdict is not None:
        reasons = "".join(f"<li>{html.escape(one.text)}</li>" for one in verdict.reasons)
        words = (
            f'<p>set {rows[0][0]}: <b style="color:{COLORS[verdict.words]}">{verdict.words}</b></p>'
            f"<ul>{reasons}</ul>"
        )
    return (
        f"<p>{title}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{words}"
    )


# --- Two studies --------------------------------------------------------------------------------

_OF_BARS = ("data_hash", "data_path", "symbols", "n_bars", "span", "first_time", "holdout_time")


def compare_studies(first: str | Path, second: str | Path) -> Comparison:
    """Two studies side by side; where their bars are the same, the best set of each in the other.

    Raises:
        StudyError: one of them is no study or cannot be read.
    """
    from optimizer.resume import differences  # brings Optuna, which the other views do without

    folders = [StudyFolder.open(Path(path)) for path in (first, second)]
    manifests = [folder.manifest() for folder in folders]
    one, other = manifests
    try:
        in_files = tuple(
            (f"[{place[0]}] {' '.join(place[1:])}".rstrip(), before, now)
            for place, before, now in differences(one["study"], other["study"])
            if "declared" not in place  # which follows from a strategy file, whose hash is compared
        )
        in_data = tuple(
            (name.replace("_", " "), one[name], other[name])
            for name in _OF_BARS
            if one[name] != other[name]
        )
        same = one["data_hash"] == other["data_hash"]
        crossed = [
            _cross(folders[i], folders[1 - i], manifests[1 - i]) if same else None for i in (0, 1)
        ]
    except KeyError as error:
        raise StudyError(f"{first}, {second}: study.json: {error} is missing") from None
    return Comparison(summarize(first), summarize(second), in_files, in_data, *crossed)


def _cross(folder: StudyFolder, other: StudyFolder, manifest: Mapping[str, Any]) -> Crossed | None:
    """The best set of ``folder`` in ``other``, whose manifest that is."""
    own = folder.manifest()["study"]
    best = best_sets(folder, study_from_dict(own).search, 1) if folder.batch_paths() else None
    if best is None or best.empty:
        return None
    document = set_document(best.to_dict("records")[0], own)
    number = int(document["set"])
    found = _number_of(_parameters(document), other) if other.batch_paths() else None
    if found is not None:
        search = study_from_dict(manifest["study"]).search
        frame = other.results(["set", "feasible", "score", *search.objective])
        order = ranked(frame[frame["feasible"]], search)
        there = set_document(other.sets([found]).to_dict("records")[0], manifest["study"])
        rank = order.index(found) + 1 if found in order else None
        return Crossed(number, found, rank, there["in_sample"], there["out_of_sample"])
    try:
        result = _again(document, other, folder.manifest()["first_bar"])
    except BarsweepError as error:
        return Crossed(number, problem=str(error))
    return Crossed(number, in_sample=result.in_sample, out_of_sample=result.out_of_sample)


def _again(document: Mapping[str, Any], folder: StudyFolder, first_bar: int = 0) -> BacktestResult:
    """A set, as an export holds it, simulated on the bars of a study and by its rules.

    Args:
        document: the set.
        folder: of the study.
        first_bar: of the first decision, at the earliest.

    Raises:
        StudyError: its strategy is a user's, whose code is not run to show a set, or the bars have
            changed.
    """
    from optimizer.study import load_study_bars

    if document["strategy"] not in STRATEGIES:
        raise StudyError("its strategy is your own, whose code `barsweep replay` alone runs")

    manifest = folder.manifest()
    study = study_from_dict(manifest["study"], manifest["study_folder"])
    bars = load_study_bars(study)
    if bars.content_hash != manifest["data_hash"]:
        raise StudyError(f"{study.data_path}: holds other bars than the study had")
    return backtest(
        bars,
        _parameters(document),
        costs=manifest["study"]["costs"],
        allow_short=study.risk.allow_short,
        market=document["market"],
        holdout=study.validation.holdout,
        first_bar=max(manifest["first_bar"], first_bar),
    )


def _parameters(document: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a set as an export holds it, by column name."""
    names = ("strategy", "classifier")
    return {**{name: document[name] for name in names}, **document["parameters"]}


def _number_of(parameters: Mapping[str, Any], folder: StudyFolder) -> int | None:
    """The first set of a study with exactly these parameters."""
    other = {"set", "trial", "feasible", "score", *METRICS, *OUT_OF_SAMPLE}
    names = [name for name in folder.columns() if name not in other]
    if not parameters.keys() <= set(names):
        return None
    frame = folder.results(["set", *names])
    for name in names:
        value = parameters.get(name)
        column = frame[name]
        frame = frame[column.isna() if value is None else column == value]
    return None if frame.empty else int(frame["set"].iloc[0])


def difference_text(value: Any) -> str:
    """A value of a difference, as a study file would state it, cut short."""
    return show(value, 40)
