"""Simulate a recorded parameter set again, under the terms of its study or of an export."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimizer.bars.load import load_bars
from optimizer.catalogue import CLASSIFIERS
from optimizer.errors import StudyError
from optimizer.store.export import set_document
from optimizer.store.folder import StudyFolder
from optimizer.store.seal import may_show
from optimizer.strategies.built_in import BUILT_IN
from optimizer.strategies.combined import named_parts
from optimizer.study_file.account import with_rate_paths
from optimizer.study_file.bars import other_files
from optimizer.study_file.components import RISK_OPTIONS
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study
from optimizer.study_file.tables import with_side_paths
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.rules import Rules
from optimizer.sweep.single_set import simulate_single, single_set_study
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars


@dataclass(frozen=True)
class Terms:
    """What a study recorded that holds for each of its parameter sets.

    Attributes:
        data_path: file of the bars.
        data: ``[data]`` of the study file, which says what bars count; the paths of its other files are
            absolute.
        data_hash: content hash of the bars.
        files_hash: the hash of what the study's other files say, see ``Rules``.
        costs: ``[costs]`` of the study file.
        account: ``[account]`` of the study file, the paths of its rates absolute.
        instruments: ``[instruments]`` of the study file.
        risk: the options of ``[risk]`` that hold for the whole study, see ``RISK_OPTIONS``.
        returns: the setting of that name in ``[search]`` of the study file.
        holdout: share of the bars after the warm-up that is out-of-sample, 0 to 1.
        first_bar: bar of the first decision.
        benchmark: ``universe`` or a symbol, see ``[validation] benchmark`` of the study file.
        own_strategies: the ``path`` of each strategy of the user's own by name, and what its file
            declared where that was recorded.
        own_classifiers: the same of each classifier.
    """

    data_path: Path
    data: Mapping[str, Any]
    data_hash: str
    files_hash: str
    costs: Mapping[str, Any]
    account: Mapping[str, Any]
    instruments: Mapping[str, Any]
    risk: Mapping[str, Any]
    returns: str
    holdout: float
    first_bar: int
    benchmark: str
    own_strategies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    own_classifiers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of_study(cls, manifest: Mapping[str, Any]) -> Terms:
        """The terms of a study.

        Args:
            manifest: the manifest of the study's folder.

        Returns:
            The terms, with every path absolute.

        Raises:
            KeyError, TypeError: the manifest is not one of a study.
        """
        study, folder = manifest["study"], Path(manifest["study_folder"])

        def absolute(name: str) -> str:
            return str((folder / name).resolve())

        return cls(
            data_path=(folder / study["data"]["path"]).resolve(),
            data=with_side_paths(study["data"], absolute),
            data_hash=manifest["data_hash"],
            files_hash=manifest["files_hash"],
            costs=study["costs"],
            account=with_rate_paths(study["account"], absolute),
            instruments=study["instruments"],
            risk={name: study["risk"][name] for name in RISK_OPTIONS},
            returns=study["search"]["returns"],
            holdout=study["validation"]["holdout"],
            first_bar=manifest["first_bar"],
            benchmark=study["validation"]["benchmark"],
            own_strategies=_own(study["strategy"]),
            own_classifiers=_own(study["classifier"]),
        )

    @classmethod
    def of_export(
        cls, content: Mapping[str, Any], folder: Path, data_path: Path | None = None
    ) -> Terms:
        """The terms of an export.

        Args:
            content: the content of the file, see ``load_export``.
            folder: the folder from which its paths count.
            data_path: the bars, where they are no longer at the path that the file names.

        Returns:
            The terms, with every path absolute.

        Raises:
            KeyError, TypeError, AttributeError: a value is missing or of the wrong kind.
        """

        def absolute(name: str) -> str:
            return str((folder / name).resolve())

        return cls(
            data_path=(data_path or folder / content["data"]["path"]).resolve(),
            data=with_side_paths(content["data"], absolute),
            data_hash=content["data"]["hash"],
            files_hash=content["data"]["files_hash"],
            costs=content["costs"],
            account=with_rate_paths(content["account"], absolute),
            instruments=content["instruments"],
            risk={name: content[name] for name in RISK_OPTIONS},
            returns=content["returns"],
            holdout=content["holdout"],
            first_bar=content["first_bar"],
            benchmark=content["benchmark"],
            own_strategies={
                name: {"path": str(folder / one["path"])}
                for name, one in content.get("strategies", {}).items()
            },
            own_classifiers={
                name: {"path": str(folder / one["path"])}
                for name, one in content.get("classifiers", {}).items()
            },
        )

    def bars(self) -> Bars:
        """Load the bars of the study.

        Returns:
            The bars, bit for bit those that the study ran on.

        Raises:
            DataError: the file cannot be used.
            StudyError: the file holds other bars than the study had.
        """
        bars = load_bars(
            self.data_path,
            symbols=self.data.get("symbols"),
            start=self.data.get("start"),
            end=self.data.get("end"),
            align=self.data["align"],
            timezone=self.data["timezone"],
            bars_per_year=self.data.get("bars_per_year"),
            bar=self.data.get("bar"),
            funding=self.data.get("funding"),
            dividends=self.data.get("dividends"),
        )
        if bars.content_hash != self.data_hash:
            raise StudyError(
                f"{self.data_path}: holds other bars than the study had (hash"
                f" {bars.content_hash[:12]}, recorded {str(self.data_hash)[:12]})"
            )
        return bars


def _own(tables: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """What is recorded of the user's own files, by name."""
    keys = ("path", "source_hash", "declared")
    return {one["name"]: {key: one[key] for key in keys} for one in tables if "path" in one}


@dataclass(frozen=True, eq=False)
class Rerun:
    """A recorded parameter set, simulated again.

    Attributes:
        number: the number of the set in its study.
        study: the study of this one set.
        inputs: the prepared inputs of the simulation: bars, features, rules.
        tile: the tile of one lane.
        result: the result of the simulation.
    """

    number: int
    study: Study
    inputs: Inputs
    tile: Tile
    result: BacktestResult


def rerun_set(
    document: Mapping[str, Any],
    terms: Terms,
    bars: Bars,
    first_bar: int | None = None,
    *,
    sealed: bool,
) -> Rerun:
    """Simulate a recorded set again, by the kernels of the sweep.

    Runs the code of a strategy of the user's own.

    Args:
        document: the set as an export holds it, see ``set_document``.
        terms: the terms under which it is simulated.
        bars: the bars that ``terms.bars()`` returned.
        first_bar: bar of the first decision at the earliest; None takes that of the terms.
        sealed: whether to leave out the holdout: the result is that of the bars before it.

    Returns:
        The set with its inputs and its result.

    Raises:
        KeyError: the document lacks a value.
        StudyFileError: a parameter is unknown or out of bounds.
        UntrustedCodeError: the file of the strategy is not approved.
        StrategyError: the strategy cannot be used.
        DataError: the bars cannot be used.
    """
    study = set_study(document, terms)
    first = terms.first_bar if first_bar is None else max(terms.first_bar, first_bar)
    # What the study's longest warm-up was holds for a late symbol too.
    inputs, tile, result = simulate_single(study, bars, first, terms.first_bar)
    refuse_other_files(study, inputs.rules, terms)
    if sealed:
        result = result.before_holdout(inputs.split - inputs.first)
    return Rerun(int(document["set"]), study, inputs, tile, result)


def refuse_other_files(study: Study, rules: Rules, terms: Terms) -> None:
    """Refuse files other than the bars' that say something else than the study had.

    They are those of interest rates, members, finer and slower bars.

    Args:
        study: the study of one set, see ``set_study``.
        rules: its rules, with what its files say now.
        terms: the terms under which it is simulated.

    Raises:
        StudyError: names the files.
    """
    if rules.files_hash != terms.files_hash:
        raise StudyError(
            f"{other_files(study.to_dict())}: not what the study had; restore the files"
        )


def is_held_back(document: Mapping[str, Any], terms: Terms) -> bool:
    """Whether a recorded set comes from a holdout that was sealed, so that its part of it is not shown.

    Args:
        document: the set as an export holds it.
        terms: the terms of the export.
    """
    return terms.holdout > 0.0 and document.get("out_of_sample") is None


def missing_parameter(document: Mapping[str, Any], terms: Terms) -> str | None:
    """A parameter that a recorded set lacks, which would be simulated with its default.

    Args:
        document: the set as an export holds it.
        terms: the terms under which it is simulated.

    Returns:
        The first of them; None if all are there.

    Raises:
        KeyError, StudyFileError, UntrustedCodeError, StrategyError: as ``rerun_set`` does.
    """
    (branch,) = build_space(set_study(document, terms)).branches
    return next((name for name in branch.columns if name not in document["parameters"]), None)


def set_study(document: Mapping[str, Any], terms: Terms) -> Study:
    """The study of one recorded set.

    Args:
        document: the set as an export holds it, see ``set_document``.
        terms: the terms under which it is simulated.

    Raises:
        KeyError: the document lacks a value.
        StudyFileError: a parameter is unknown or out of bounds.
    """
    return single_set_study(
        parameters_of(document),
        terms.costs,
        terms.risk["allow_short"],
        document.get("market"),
        terms.holdout,
        {
            name: terms.own_strategies[name]
            for name in named_parts(document["strategy"])[1]
            if name in terms.own_strategies
        },
        own_classifier=terms.own_classifiers.get(document["classifier"]),
        account=terms.account,
        instruments=terms.instruments,
        **{name: terms.risk[name] for name in RISK_OPTIONS if name != "allow_short"},
        members=terms.data.get("members"),
        fills=terms.data.get("fills"),
        slower=terms.data.get("slower"),
        timezone=terms.data["timezone"],
        exchange=terms.data.get("exchange"),
        bar=terms.data.get("bar"),
        returns=terms.returns,
    )


def rerun_built_in(
    document: Mapping[str, Any], terms: Terms, first_bar: int | None = None, *, sealed: bool
) -> BacktestResult:
    """Simulate a recorded set again, unless that would run a user's code only to show a set.

    Args:
        document: the set as an export holds it.
        terms: the terms under which it is simulated.
        first_bar: bar of the first decision at the earliest; None takes that of the terms.
        sealed: whether to leave out the holdout.

    Returns:
        The result.

    Raises:
        StudyError: the strategy is the user's own, or the bars have changed.
        DataError: the bars cannot be used.
    """
    if not {*named_parts(document["strategy"])[1]} <= BUILT_IN.keys():
        raise StudyError("its strategy is your own, whose code only `barsweep replay` runs")
    if document["classifier"] not in CLASSIFIERS:
        raise StudyError("its classifier is your own, whose code only `barsweep replay` runs")
    return rerun_set(document, terms, terms.bars(), first_bar, sealed=sealed).result


def open_positions(folder: str | os.PathLike[str], number: int) -> dict[str, float]:
    """Positions that a parameter set of a study holds after the last bar, simulated again.

    After the last bar in-sample, where its part of the holdout is sealed.

    Args:
        folder: the folder of the study.
        number: the number of the set.

    Returns:
        Signed units by symbol; without the symbols that are flat.

    Raises:
        StudyError: there is no study, no such set in it, the simulation differs from what is
            recorded, the bars have changed, or the strategy is the user's own.
        DataError: the bars cannot be used.
    """
    opened = StudyFolder.open(Path(folder))
    manifest = opened.manifest()
    document = set_document(opened.sets([number]).to_dict("records")[0], manifest["study"])
    sealed = not may_show(opened, number)
    result = rerun_built_in(document, Terms.of_study(manifest), sealed=sealed)
    if result.in_sample["final_equity"] != document["in_sample"]["final_equity"]:
        raise StudyError("a simulation now differs from what is recorded")
    return result.open_positions


def parameters_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a set by column name, ``strategy`` and ``classifier`` among them.

    Args:
        document: the set as an export holds it.

    Returns:
        What ``backtest`` takes.

    Raises:
        KeyError: the document lacks a value.
    """
    names = ("strategy", "classifier")
    return {**{name: document[name] for name in names}, **document["parameters"]}
