"""An exported set, ready to decide on bars that go on where those of its study ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optimizer.errors import DataError, ExportError, StudyError
from optimizer.files import write_atomically
from optimizer.flow.prepared import PreparedFlow, prepare_flow
from optimizer.review.exported import chosen_set, exported_set, read_export
from optimizer.review.rerun import Terms, is_held_back, refuse_other_files, set_study
from optimizer.selection.looks import sealed_look
from optimizer.store.combination import Combination
from optimizer.store.folder import StudyFolder
from optimizer.store.ledger import note_look
from optimizer.study_file.space import build_space
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import holdout_bar
from optimizer.sweep.rules import study_rules
from optimizer.trading.history import History, compared, load_newest, revisions_text
from optimizer.types import Bars


@dataclass(frozen=True, eq=False)
class TradingSet:
    """A set of an export that may decide: its code is trusted, its bars go on with the study's.

    Attributes:
        source: the export, for messages.
        name: name of the study.
        number: number of the set in it.
        terms: the terms of the study, without a holdout: every bar counts.
        study: the study of this one set.
        history: the bars, and what was revised in them.
        look: the first bar of the holdout that was sealed when the set was exported, and the terms of
            the study; None where nothing is sealed.
    """

    source: Path
    name: str
    number: int
    terms: Terms
    study: Study
    history: History
    look: tuple[int, Study] | None

    def note_look(self) -> None:
        """Note in the ledger a look at the holdout of the set, where that was sealed.

        Raises:
            StudyError: the ledger cannot be used.
        """
        if self.look is not None:
            split, study = self.look
            note_look(sealed_look(study, self.history.recorded, split, self.number))

    def prepared(self, bars: Bars | None = None, first_bar: int | None = None) -> PreparedFlow:
        """The flow of the set on bars that go on.

        Args:
            bars: the bars; None takes those of ``history``.
            first_bar: bar of the first decision; None takes that of the study.
        """
        warm_up = self.terms.first_bar
        return prepare_flow(
            self.study,
            self.history.bars if bars is None else bars,
            first_bar=warm_up if first_bar is None else first_bar,
            warm_up=warm_up,
            data_hash=self.terms.data_hash,
        )


def open_to_trade(
    path: Path,
    *,
    number: int | None = None,
    data: Path | Bars | None = None,
    accept_revisions: bool = False,
    trust: bool = False,
) -> TradingSet:
    """Open a set of an export or of a study on bars that go on where the study's ended. The caller is
    within ``naming_export``.

    Args:
        path: a JSON or TOML export, or the folder of a study.
        number: the rank of the set in an export, from 1, or its number in a study; None takes the best.
        data: the bars, a file or a folder of files; None takes those that the export names.
        accept_revisions: go on where bars that the study had are others now.
        trust: approve the strategy file that the export names, for good.

    Returns:
        The set.

    Raises:
        ExportError: the file cannot be used, or orders cannot be decided by the rules of the study.
        DataError: the bars cannot be used, or those that the study had were revised.
        UntrustedCodeError: the user has neither run nor approved the strategy file.
    """
    content, place, base = read_export(path, number)
    return _opened(path, path, content, place, base, data, accept_revisions, trust)


@dataclass(frozen=True, eq=False)
class TradingBook:
    """The sets of a combination, each ready to decide in an account of its own.

    Attributes:
        combination: what its file holds.
        members: the sets, on the same bars.
    """

    combination: Combination
    members: Sequence[TradingSet]

    @property
    def history(self) -> History:
        """The bars, and what was revised in them."""
        return self.members[0].history


def open_book_to_trade(
    path: Path,
    combination: Combination,
    *,
    data: Path | Bars | None = None,
    accept_revisions: bool = False,
    trust: bool = False,
) -> TradingBook:
    """Open the sets of a combination, see ``open_to_trade``. The caller is within ``naming_export``.

    Args:
        path: the file of the combination.
        combination: what it holds.
        data, accept_revisions, trust: see ``open_to_trade``.

    Returns:
        The sets.

    Raises:
        ExportError, DataError, UntrustedCodeError: see ``open_to_trade``.
    """
    base, members = path.resolve().parent, []
    for number, one in enumerate(combination.members, 1):
        name = Path(f"{path}: members #{number}")
        found = _opened(path, name, one.export, 1, base, data, accept_revisions, trust)
        data = found.history.bars
        members.append(found)
        first = members[0].terms
        if (found.terms.data_hash, found.terms.first_bar) != (first.data_hash, first.first_bar):
            raise ExportError(
                f"{name}: its bars or its first decision are not those of members #1; combine the studies"
                " again"
            )
    return TradingBook(combination, members)


def _opened(
    path: Path,
    name: Path,
    content: Mapping[str, Any],
    place: int,
    base: Path,
    data: Path | Bars | None,
    accept_revisions: bool,
    trust: bool,
) -> TradingSet:
    """A set of an export, which messages name ``name``."""
    chosen = chosen_set(name, content, place)
    own = Terms.of_export(content, base)
    terms = replace(own, holdout=0.0)
    n_recorded = content["data"].get("n_bars")
    if n_recorded is None:
        raise ExportError(f"{name}: data: n_bars: missing; export the study again")
    if terms.costs.get("fill") == "close":
        raise ExportError(
            f'{name}: [costs] fill = "close": orders fill at the close that decides them, so none are'
            ' left for the next open; run the study with fill = "next_open"'
        )
    if terms.risk["session_exit"]:
        raise ExportError(
            f"{name}: [risk] session_exit = true: which bar is the last of a session is not known before"
            " it ends; run the study with time_exit instead"
        )
    if terms.data.get("slower") is not None:
        raise ExportError(
            f"{name}: [data] slower: new bars of a second file are not read here; run the study without"
            " it, so that longer bars come from the bars themselves"
        )
    every = data if isinstance(data, Bars) else load_newest(terms, data or own.data_path)
    references = [own.data_path, bars_of_export(path)]
    history = compared(every, terms, n_recorded, references)
    if history.revised and not accept_revisions:
        raise DataError(
            f"{every.source}: history was revised: {revisions_text(history)}; give bars that go on with"
            " the study's, or go on with these by --accept-revisions"
        )
    recorded = history.recorded
    opened = exported_set(name, content, place, terms, recorded, trust)
    study = in_bars(set_study(opened.document, terms), recorded)
    space = build_space(study)
    rules = study_rules(study, space, recorded)
    if not history.revised:
        try:
            refuse_other_files(study, rules, terms)
        except StudyError as error:
            raise ExportError(f"{name}: data: {error}") from None
    look = None
    if is_held_back(chosen, own):
        look = holdout_bar(recorded, rules, own.first_bar, own.holdout), set_study(chosen, own)
    return TradingSet(path, opened.study, int(chosen["set"]), terms, study, history, look)


def bars_of_export(path: Path) -> Path:
    """The file in which ``barsweep export --bars`` keeps the bars of a study.

    Args:
        path: the export.
    """
    return path / "best.bars.parquet" if path.is_dir() else path.with_suffix(".bars.parquet")


def keep_bars(folder: Path, export: Path) -> Path:
    """Write the bars of a study next to an export of it, to tell later what was revised in them.

    Args:
        folder: the folder of the study.
        export: the export.

    Returns:
        The file written.

    Raises:
        StudyError: there is no study in the folder, or the bars are no longer those that it had.
        DataError: the bars cannot be used.
        ExportError: the file cannot be written.
    """
    bars = Terms.of_study(StudyFolder.open(folder).manifest()).bars()
    path = bars_of_export(export)
    try:
        write_atomically(path, lambda part: bars.to_frame().to_parquet(part, index=False))
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path
