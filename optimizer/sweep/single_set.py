"""Simulate one parameter set, with its fills and equity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kernels import layout
from kernels.codes import WAITING
from optimizer.catalogue import COSTS, METRICS, RISK
from optimizer.errors import StudyFileError
from optimizer.strategies.built_in import BUILT_IN
from optimizer.strategies.combined import named_parts
from optimizer.strategies.position_values import EXTREMES
from optimizer.study_file.components import RECORDED, RISK_OPTIONS, Readers
from optimizer.study_file.costs import fixed_costs
from optimizer.study_file.space import Value, build_space
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study, make_study
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.evaluate import Accounts, Recording, simulate_blocks, walk
from optimizer.sweep.fills_table import fill_table
from optimizer.sweep.inputs import Inputs, MarketRegime, RegimeKey, fit_key, prepare
from optimizer.sweep.lanes import lay_out_blocks, row_of
from optimizer.sweep.rules import study_rules
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars, FloatArray

_COSTS = frozenset(one.name for one in COSTS)
_RISK = frozenset(one.name for one in RISK)


def simulate_single(
    study: Study, bars: Bars, first_bar: int | None = None, warm_up: int | None = None
) -> tuple[Inputs, Tile, BacktestResult]:
    """Simulate a study of one parameter set.

    Args:
        study: see ``single_set_study``.
        bars: the bars of all symbols.
        first_bar: bar of the first decision; None takes the longest warm-up of the parameters.
        warm_up: bars of its own that a symbol has before its first decision; None likewise.

    Returns:
        The inputs, the tile of one lane, and the result.

    Raises:
        StrategyError: the user's strategy cannot be used.
        DataError: too few bars, or an unknown market.
    """
    study = in_bars(study, bars)
    space = build_space(study)
    rules = study_rules(study, space, bars)
    branch = space.branches[0]
    inputs = prepare(bars, space, rules, study.validation.holdout, first_bar, warm_up=warm_up)
    tile = Tile.of(branch, branch.lanes({}))
    return inputs, tile, record(inputs, tile, tile_regimes(bars, tile))


def tile_regimes(bars: Bars, tile: Tile) -> dict[RegimeKey, MarketRegime]:
    """What the regime models say that a tile names.

    Args:
        bars: the bars of all symbols.
        tile: the tile.
    """
    wanted = bool(tile.strategy.regime_values)
    return {key: fit_key(bars, key, wanted)[0] for key in tile.regime_keys()[0]}


def record(inputs: Inputs, tile: Tile, regimes: Mapping[RegimeKey, MarketRegime]) -> BacktestResult:
    """Simulate one parameter set and keep its equity and its fills.

    Args:
        inputs: the prepared inputs of the study.
        tile: one parameter set.
        regimes: what the regime model says that it names.

    Returns:
        Equity, fills and metrics.
    """
    bars = inputs.bars
    recording = Recording.empty(bars.n_bars, bars.n_symbols)
    result = simulate_blocks(inputs, lay_out_blocks([tile], inputs, regimes), 0, 1, recording)
    return recorded(
        inputs,
        tile,
        regimes,
        recording,
        metric_values(result.in_sample[0]),
        metric_values(result.out_of_sample[0]) if inputs.split < bars.n_bars else None,
    )


def recorded(
    inputs: Inputs,
    tile: Tile,
    regimes: Mapping[RegimeKey, MarketRegime],
    recording: Recording,
    in_sample: dict[str, float],
    out_of_sample: dict[str, float] | None,
) -> BacktestResult:
    """What one parameter set did, from its recording.

    Args:
        inputs, tile, regimes: the arguments that ``record`` takes.
        recording: what its lane did.
        in_sample, out_of_sample: its metrics by name; the latter None without a holdout.

    Returns:
        Equity, fills and metrics.
    """
    bars = inputs.bars
    index = pd.DatetimeIndex(bars.timestamps[inputs.first :], name="timestamp", tz="UTC")
    codes = regimes[tile.regime_keys()[0][0]].codes
    values: dict[str, Value] = {name: float(array[0]) for name, array in tile.columns.items()}
    return BacktestResult(
        parameters={"strategy": tile.strategy.name, "classifier": tile.classifier, **values},
        equity=pd.Series(recording.equity[inputs.first :], index, name="equity"),
        fills=fill_table(inputs, recording),
        in_sample=in_sample,
        out_of_sample=out_of_sample,
        regimes=pd.Series(codes[inputs.first :], index, name="regime"),
        bars=bars,
        rules=inputs.rules,
        waiting=recording.waiting,
        sums=recording.sums,
    )


def record_equity(
    inputs: Inputs, tile: Tile, regimes: Mapping[RegimeKey, MarketRegime]
) -> pd.Series[float]:
    """Simulate one parameter set and keep its equity alone.

    Args:
        inputs, tile, regimes: the arguments that ``record`` takes.

    Returns:
        As ``BacktestResult.equity``.
    """
    bars = inputs.bars
    recording = Recording.empty(bars.n_bars, bars.n_symbols, fills=False)
    simulate_blocks(inputs, lay_out_blocks([tile], inputs, regimes), 0, 1, recording)
    index = pd.DatetimeIndex(bars.timestamps[inputs.first :], name="timestamp", tz="UTC")
    return pd.Series(recording.equity[inputs.first :], index, name="equity")


def record_succession(
    inputs: Inputs,
    sets: Sequence[tuple[Tile, int]],
    stop: int,
    regimes: Mapping[RegimeKey, MarketRegime],
) -> pd.Series[float]:
    """Simulate one account in which parameter sets follow one another, and keep its equity.

    A set that takes over at a bar finds the account as the set before has left it: its cash, its
    positions with what they cost, and the orders that fill at the open of that bar. From then on its
    stops are watched and its costs are paid, and at the close of that bar it decides for the first time.
    A signal HOLD keeps what is held, as ever.

    Args:
        inputs: the prepared inputs of the study.
        sets: tiles of one parameter set, each with the bar at which it takes over, ascending.
        stop: the bar after the last one.
        regimes: what the regime models say that they name.

    Returns:
        Money at each close from the first of these bars on, indexed by the time of the bar.
    """
    bars = inputs.bars
    recording = Recording.empty(bars.n_bars, bars.n_symbols, fills=False)
    if any(tile.strategy.position_values for tile, _ in sets):
        # Entry prices and the closes held are kept where stops are watched, whatever the strategy.
        inputs = replace(inputs, rules=replace(inputs.rules, stops=True))
    accounts = Accounts.new(inputs, 1)
    starts = [start for _, start in sets]
    for (tile, start), end in zip(sets, [*starts[1:], stop], strict=True):
        blocks = lay_out_blocks([tile], inputs, regimes)
        if not EXTREMES.isdisjoint(tile.strategy.position_values):
            _take_over_extremes(inputs, accounts, start)
        walk(inputs, blocks, 0, 1, accounts, recording, start, end)
    index = pd.DatetimeIndex(bars.timestamps[starts[0] : stop], name="timestamp", tz="UTC")
    return pd.Series(recording.equity[starts[0] : stop], index, name="equity")


def _take_over_extremes(inputs: Inputs, accounts: Accounts, start: int) -> None:
    """Leave the extreme closes of what lane 0 holds for a signal that reads them from ``start`` on."""
    bars = inputs.bars
    shape = (-1, bars.n_symbols, layout.N_SYMBOL_ROWS, layout.STRIDE)
    lane = accounts.positions.reshape(shape)[0, :, :, 0]
    for s in range(bars.n_symbols):
        held = lane[s, row_of(layout.HELD_BARS)]
        if held > 0.0:
            decided = np.flatnonzero(inputs.live[:start, s] != WAITING)
            closes = bars.close[decided[-int(held) :], s]
            lane[s, row_of(layout.HIGHEST)] = closes.max()
            lane[s, row_of(layout.LOWEST)] = closes.min()


def metric_values(row: FloatArray) -> dict[str, float]:
    """The metrics of one parameter set by name, from a row of shape (n_metrics,).

    Args:
        row: shape (n_metrics,), in the order of ``catalogue.METRICS``.
    """
    return {name: float(value) for name, value in zip(METRICS, row, strict=True)}


def single_set_study(
    parameters: Mapping[str, Value],
    costs: Mapping[str, Any],
    allow_short: bool,
    market: str | None,
    holdout: float,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    read: Readers = RECORDED,
    *,
    own_classifier: Mapping[str, Any] | None = None,
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
) -> Study:
    """A study of one parameter set; see ``optimizer.backtest``.

    Args:
        parameters, costs, allow_short, market, holdout: the arguments that ``optimizer.backtest`` takes.
        own: what ``[strategy]`` says of each of the user's own strategies apart from its parameters, by
            name: ``path``, or all that ``UserStrategy.to_dict`` gives, with which its file is not run
            again.
        read: reads the file of a strategy or classifier of which nothing says what it declares.
        own_classifier: what ``[classifier]`` says of the user's own classifier apart from its parameters,
            as ``own`` does of strategies.
        account, instruments, sizing, allocation, entry, session_exit: the arguments that
            ``optimizer.backtest`` takes.
        members, fills, slower, timezone, exchange, bar, returns: likewise.

    Raises:
        StudyFileError: a parameter is unknown, or a value is out of bounds.
    """
    given = dict(parameters)
    strategy = given.pop("strategy", None)
    classifier = given.pop("classifier", "none")
    rule, names = named_parts(strategy if isinstance(strategy, str) else "")
    unknown = [name for name in names if name not in BUILT_IN and name not in (own or {})]
    if unknown:
        found = unknown[0] if rule else strategy
        raise StudyFileError(
            f"parameters: strategy = {found!r}: unknown; valid: {', '.join(BUILT_IN)}"
        )
    strategies = {name: {**(own or {}).get(name, {}), "name": name} for name in names}
    tables: dict[str, dict[str, Any]] = {
        "classifier": {**(own_classifier or {}), "name": classifier},
        "risk": {
            "allow_short": allow_short,
            "sizing": sizing,
            "allocation": allocation,
            "entry": entry,
            "session_exit": session_exit,
        },
        "costs": dict(costs),
    }
    if market is not None:
        tables["classifier"]["market"] = market
    fixed = fixed_costs(costs)
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            hint = f"; give {name} as an argument of its own" if name in RISK_OPTIONS else ""
            raise StudyFileError(f"parameters: {name} = {value!r}: expected one number{hint}")
        place, key = _place_of(name, tables, [*strategies.values(), tables["classifier"]])
        whole = isinstance(value, float) and value.is_integer()
        if place is not tables["costs"] or key not in fixed:
            place[key] = int(value) if whole else value
    side_files = {"members": members, "fills": fills, "slower": slower}
    content = {
        "study": {"name": "backtest"},
        "data": {
            "path": ".",
            "timezone": timezone,
            **{name: str(path) for name, path in side_files.items() if path is not None},
            **({} if exchange is None else {"exchange": exchange}),
            **({} if bar is None else {"bar": bar}),
        },
        "strategy": list(strategies.values()),
        **({"strategies": {"combine": "together", "rule": rule}} if rule else {}),
        **tables,
        "account": dict(account or {}),
        "instruments": dict(instruments or {}),
        "search": {"returns": returns},
        "validation": {"holdout": holdout},
    }
    return make_study(content, None, Path(), read)


def _place_of(
    name: str, tables: Mapping[str, dict[str, Any]], owners: Sequence[dict[str, Any]]
) -> tuple[dict[str, Any], str]:
    """The table of a column, and its key there; ``[risk]``, which knows its keys, if none has it.

    A name of ``[costs]`` or ``[risk]`` is of that table, whatever a strategy is called. Of two names that
    begin another one, the longer is its owner.
    """
    if name in _COSTS:
        return tables["costs"], name
    of_name = [] if name in _RISK else [o for o in owners if name.startswith(f"{o['name']}_")]
    if not of_name:
        return tables["risk"], name
    owner = max(of_name, key=lambda one: len(one["name"]))
    return owner, name.removeprefix(f"{owner['name']}_")
