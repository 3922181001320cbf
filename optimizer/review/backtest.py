"""Backtest one parameter set, given by its parameters or exported by a study."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from optimizer.errors import ExportError
from optimizer.review.exported import exported_set, naming_export
from optimizer.review.rerun import Terms, is_held_back, rerun_set
from optimizer.store.export import checked_export, load_export
from optimizer.study_file.components import NAMED
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.single_set import simulate_single, single_set_study
from optimizer.types import Bars


def backtest(
    bars: Bars,
    parameters: Mapping[str, Any] | str | os.PathLike[str],
    *,
    costs: Mapping[str, Any] | None = None,
    allow_short: bool = False,
    market: str | None = None,
    holdout: float = 0.0,
    first_bar: int | None = None,
    strategy_path: str | Path | Mapping[str, str | Path] | None = None,
    classifier_path: str | Path | None = None,
    account: Mapping[str, Any] | None = None,
    instruments: Mapping[str, Any] | None = None,
    sizing: str = "kelly",
    allocation: str = "additions",
    entry: str = "market",
    session_exit: bool = False,
    members: str | Path | None = None,
    fills: str | Path | None = None,
    slower: str | Path | None = None,
    timezone: str = "UTC",
    exchange: str | None = None,
    bar: str | None = None,
    returns: str = "bar",
    warm_up: int | None = None,
    number: int = 1,
) -> BacktestResult:
    """Simulate one parameter set with the kernels of the sweep.

    An exported set runs under the terms of its study, and gives the metrics that the export records, bit
    for bit. While its part of the holdout is sealed, the result ends before it.

    >>> import optimizer
    >>> bars = optimizer.load_bars("bars.parquet")
    >>> result = optimizer.backtest(bars, {"strategy": "momentum", "momentum_lookback": 20})
    >>> sorted(result.stats.columns), result.parameters["momentum_lookback"]
    (['in_sample'], 20.0)

    Args:
        bars: the bars of all symbols.
        parameters: the parameters by column name, such as ``{"strategy": "momentum",
            "momentum_lookback": 60}``; ``classifier`` defaults to ``none``, the others to the
            catalogue. Or a set of an export, with which only ``number`` may be given: the path of the
            file, its content as a mapping, or one of its ``sets``. The paths in a mapping count from
            the working folder.
        costs: the costs as ``[costs]`` of a study file; a number or a table per symbol counts
            before that cost among ``parameters``.
        allow_short: whether short positions are allowed, as in ``[risk]`` of a study file.
        market: the ``market`` of ``[classifier]`` of a study file.
        holdout: share of the bars after the warm-up that counts as out-of-sample.
        first_bar: bar of the first decision; None takes the longest warm-up of the parameters.
        strategy_path: Python file of a user's own strategy, by name where several are together; None
            for built-in ones.
        classifier_path: Python file of a user's own classifier; None for a built-in one.
        account: the account as ``[account]`` of a study file.
        instruments: the instruments as ``[instruments]`` of a study file: a table for each symbol.
        sizing, allocation, entry, session_exit: the settings of the same names in ``[risk]`` of a
            study file.
        members, fills, slower, timezone, exchange, bar: the settings of the same names in ``[data]`` of a
            study file.
        returns: the setting of that name in ``[search]`` of a study file.
        warm_up: bars of its own that a symbol has before its first decision; None takes the longest
            warm-up of the parameters.
        number: the rank of the set in the export, from 1.

    Returns:
        Equity, fills and metrics.

    Raises:
        StudyFileError: a parameter is unknown, or a value is out of bounds.
        StrategyError: the user's strategy cannot be used.
        DataError: there are too few bars, the market is unknown, or the members cannot be used.
        ExportError: the export cannot be used, or is of other bars, or another argument is given.
        UntrustedCodeError: you have neither run nor approved the strategy file of the export.
    """
    arguments = locals()
    if not isinstance(parameters, Mapping) or not {"sets", "terms"}.isdisjoint(parameters):
        _refuse_settings(arguments)
        return _exported(bars, parameters, number)
    own = None
    if isinstance(strategy_path, Mapping):
        own = {name: {"path": str(path)} for name, path in strategy_path.items()}
    elif strategy_path is not None:
        own = {str(parameters.get("strategy")): {"path": str(strategy_path)}}
    study = single_set_study(
        parameters,
        costs or {},
        allow_short,
        market,
        holdout,
        own,
        NAMED,
        own_classifier=None if classifier_path is None else {"path": str(classifier_path)},
        account=account,
        instruments=instruments,
        sizing=sizing,
        allocation=allocation,
        entry=entry,
        session_exit=session_exit,
        members=members,
        fills=fills,
        slower=slower,
        timezone=timezone,
        exchange=exchange,
        bar=bar,
        returns=returns,
    )
    return simulate_single(study, bars, first_bar, warm_up)[2]


_EXPORT = Path("<export>")
"""What messages call an export in memory."""


def _exported(
    bars: Bars, given: Mapping[str, Any] | str | os.PathLike[str], number: int
) -> BacktestResult:
    """A set of an export, on the bars that the caller has."""
    if not isinstance(given, Mapping):
        file, content = Path(given), load_export(Path(given))
    elif "sets" in given:
        file, content = _EXPORT, checked_export(dict(given), _EXPORT)
    else:
        whole = (
            {**given["terms"], "sets": [dict(given)]}
            if isinstance(given["terms"], Mapping)
            else None
        )
        file, content = _EXPORT, checked_export(whole, _EXPORT)
    with naming_export(file):
        terms = Terms.of_export(content, file.resolve().parent)
        if bars.content_hash != terms.data_hash:
            raise ExportError(
                f"{file}: comes from other bars than these (hash {bars.content_hash[:12]}, recorded"
                f" {terms.data_hash[:12]}); load the bars as the study does, or give the set's parameters"
            )
        one = exported_set(file, content, number, terms, bars, trust=False)
        sealed = is_held_back(one.document, terms)
        return rerun_set(one.document, terms, bars, sealed=sealed).result


def _refuse_settings(arguments: Mapping[str, Any]) -> None:
    """Refuse what would change the terms of an exported set."""
    for name, one in inspect.signature(backtest).parameters.items():
        if one.kind is one.KEYWORD_ONLY and name != "number" and arguments[name] != one.default:
            raise ExportError(
                f"{name} = {arguments[name]!r}: an exported set has its own; leave {name} out, or"
                " give the set's parameters"
            )
