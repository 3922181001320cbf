"""Replay an exported set and compare it with what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optimizer.bars.load import load_bars
from optimizer.catalogue import METRICS
from optimizer.errors import BarsweepError, DataError, ExportError, StudyFileError
from optimizer.flow.parity import Parity, compare
from optimizer.flow.prepared import run_flow
from optimizer.store.export import load_export, plain_values
from optimizer.strategies.user_file import source_hash
from optimizer.sweep.single_set import BacktestResult, backtest, single_set_study
from optimizer.text import shown
from optimizer.types import Bars


@dataclass(frozen=True)
class Difference:
    """A metric that a replay does not reproduce."""

    sample: str
    metric: str
    recorded: Any
    replayed: Any


@dataclass(frozen=True, eq=False)
class Replay:
    """An exported set run again.

    Attributes:
        result: of the run.
        recorded: the set as exported.
        differences: metrics that differ in any bit; empty where it is reproduced exactly.
        study: name of the study that it came from.
        costs: as the study file's ``[costs]``.
        bars: that it ran on.
        parity: the event flow beside the vectorized result, where it was asked for.
    """

    result: BacktestResult
    recorded: Mapping[str, Any]
    differences: tuple[Difference, ...]
    study: str
    costs: Mapping[str, Any]
    bars: Bars
    parity: Parity | None = None


def replay(
    path: str | Path, *, number: int = 1, data: str | Path | None = None, events: bool = False
) -> Replay:
    """Run an exported parameter set again from its file and its bars alone, and compare.

    Args:
        path: a JSON or TOML export.
        number: which of its sets, from 1.
        data: the bars, where they are no longer at the path that the file names.
        events: run it through the event flow too, and compare equity and fills.

    Raises:
        ExportError: the file cannot be used, or the bars or the strategy are not those of the study.
        StrategyError: the user's strategy cannot be used.
        DataError: the bars cannot be used.
    """
    file = Path(path)
    content = load_export(file)
    try:
        sets = content["sets"]
        source = content["data"]
        if not 1 <= number <= len(sets):
            raise ExportError(
                f"{file}: sets: has {len(sets)}, asked for number {number}; --set counts from 1, the"
                " best"
            )
        chosen = sets[number - 1]
        bars_path = Path(data) if data is not None else file.resolve().parent / source["path"]
        if not bars_path.exists():
            raise DataError(f"{bars_path.resolve()}: no such file; name the bars with --data FILE")
        bars = load_bars(
            bars_path.resolve(),
            symbols=source["symbols"],
            start=source.get("start"),
            end=source.get("end"),
            align=source["align"],
            timezone=source["timezone"],
        )
        if bars.content_hash != source["hash"]:
            raise ExportError(
                f"{file}: data: {bars_path.resolve()} holds other bars than the study had"
                f" (hash {bars.content_hash[:12]}, recorded {str(source['hash'])[:12]}); give the"
                " study's bars with --data"
            )
        parameters = {
            "strategy": chosen["strategy"],
            "classifier": chosen["classifier"],
            **chosen["parameters"],
        }
        own = content.get("strategies", {}).get(chosen["strategy"])
        strategy_path = None if own is None else file.resolve().parent / own["path"]
        if strategy_path is not None:
            found = source_hash(strategy_path)
            if found != own["hash"]:
                raise ExportError(
                    f"{file}: strategies {chosen['strategy']}: {shown(strategy_path.resolve())} has"
                    f" changed since the study ran (hash {found[:12]}, recorded"
                    f" {str(own['hash'])[:12]}); put the file of then back, or run the study again"
                )
        costs, allow_short = content["costs"], content["allow_short"]
        if not isinstance(costs, dict) or not isinstance(chosen["set"], int):
            raise ExportError(f"{file}: costs and set: expected a table and a whole number")
        market, holdout, first = chosen.get("market"), content["holdout"], content["first_bar"]
        result = backtest(
            bars,
            parameters,
            costs=costs,
            allow_short=allow_short,
            market=market,
            holdout=holdout,
            first_bar=first,
            strategy_path=strategy_path,
        )
        parity = None
        if events:
            study = single_set_study(parameters, costs, allow_short, market, holdout, strategy_path)
            parity = compare(run_flow(study, bars, first_bar=first), 0, result)
        differences = _compare("in-sample", chosen["in_sample"], result.in_sample)
        recorded_out = chosen.get("out_of_sample")
        if recorded_out is not None or result.out_of_sample is not None:
            differences += _compare("out-of-sample", recorded_out or {}, result.out_of_sample or {})
        name = str(content["study"]["name"])
    except KeyError as error:
        raise ExportError(f"{file}: {error.args[0]}: missing; export the study again") from None
    except StudyFileError as error:
        raise ExportError(f"{file}: {str(error).removeprefix('<study>: ')}") from None
    except BarsweepError:
        raise
    except (TypeError, AttributeError, ValueError) as error:
        raise ExportError(f"{file}: a value of the wrong kind: {error}") from None
    return Replay(result, chosen, tuple(differences), name, costs, bars, parity)


def _compare(
    sample: str, recorded: Mapping[str, Any], replayed: Mapping[str, float]
) -> list[Difference]:
    found = []
    for name in METRICS:
        before, now = recorded.get(name), plain_values(replayed.get(name))
        same = before == now if before is not None else now is None
        if not same:
            found.append(Difference(sample, name, before, now))
    return found
