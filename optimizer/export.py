"""Parameter sets out of a study and back: export files, and their replay."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import tomli_w

from optimizer.backtest import BacktestResult, backtest, single_set_study
from optimizer.bars import load_bars
from optimizer.catalogue import METRICS
from optimizer.config import study_from_dict
from optimizer.custom import shown, source_hash
from optimizer.errors import BarsweepError, DataError, ExportError, StudyFileError
from optimizer.event_flow import Parity, compare, run_flow
from optimizer.results import best_sets, no_best
from optimizer.store import (
    OUT_OF_SAMPLE,
    SCHEMA_VERSION,
    StudyFolder,
    check_output,
    write_atomically,
)
from optimizer.types import Bars

Format = Literal["json", "toml", "csv", "parquet"]
FORMATS: tuple[Format, ...] = ("json", "toml", "csv", "parquet")
KIND = "barsweep parameter sets"


def export_sets(
    folder: str | Path,
    *,
    top: int = 1,
    format: Format = "json",
    out: str | Path | None = None,
) -> Path:
    """Write the best parameter sets of a study to a file.

    JSON and TOML carry all that `replay` needs; CSV and Parquet are tables for other tools.

    Args:
        folder: of the study.
        top: sets, best first.
        format: of the file.
        out: the file; None takes ``best.<format>`` in the folder.

    Returns:
        The file written.

    Raises:
        StudyError: there is no study in the folder, or it has no results.
        ExportError: no set is feasible, or the file cannot be written.
    """
    if top < 1:
        raise ExportError(f"--top must be 1 or more, got {top}")
    study_folder = StudyFolder.open(Path(folder))
    manifest = study_folder.manifest()
    study = study_from_dict(manifest["study"])
    frame = best_sets(study_folder, study.search, top)
    if frame.empty:
        raise ExportError(
            f"{folder}: nothing to export: {no_best(study_folder, study.search)}; relax [search]"
            " constraints, or try other values"
        )
    path = Path(out) if out is not None else study_folder.path / f"best.{format}"
    check_output(path, (f".{format}",), f"an export in the format {format}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if format == "csv":
            write_atomically(path, lambda part: frame.to_csv(part, index=False))
        elif format == "parquet":
            write_atomically(path, lambda part: frame.to_parquet(part, index=False))
        else:
            content = _document(manifest, frame, path)
            text = (
                json.dumps(content, indent=1, allow_nan=False)
                if format == "json"
                else tomli_w.dumps(_without_none(content))
            )
            write_atomically(path, lambda part: part.write_text(text + "\n"))
    except OSError as error:
        raise ExportError(f"{path}: cannot be written: {error.strerror or error}") from None
    return path


def _document(manifest: Mapping[str, Any], frame: pd.DataFrame, path: Path) -> dict[str, Any]:
    study = manifest["study"]
    data = Path(manifest["data_path"])
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "study": {
            "name": study["study"]["name"],
            "hash": manifest["study_hash"],
            "seed": study["study"]["seed"],
        },
        "data": {
            **study["data"],
            "path": os.path.relpath(data, path.resolve().parent),
            "hash": manifest["data_hash"],
            "symbols": manifest["symbols"],
        },
        "costs": study["costs"],
        "allow_short": study["risk"]["allow_short"],
        "strategies": {
            strategy["name"]: {
                "path": os.path.relpath(strategy["path"], path.resolve().parent),
                "hash": strategy["source_hash"],
            }
            for strategy in study["strategy"]
            if "path" in strategy
        },
        "holdout": study["validation"]["holdout"],
        "first_bar": manifest["first_bar"],
        "versions": manifest["versions"],
        "sets": [set_document(row, study) for row in frame.to_dict("records")],
    }


def set_document(row: Mapping[Any, Any], study: Mapping[str, Any]) -> dict[str, Any]:
    """One parameter set as an export holds it.

    Args:
        row: of the study's results.
        study: as ``Study.to_dict`` gives it.
    """
    known = {"set", "trial", "strategy", "classifier", "feasible", "score"}
    markets = {one["name"]: one.get("market") for one in study["classifier"]}
    parameters = {
        name: _plain(value)
        for name, value in row.items()
        if name not in known and name not in METRICS and name not in OUT_OF_SAMPLE
    }
    out_of_sample = {n: _plain(row[o]) for n, o in zip(METRICS, OUT_OF_SAMPLE, strict=True)}
    return {
        "set": int(row["set"]),
        "trial": int(row["trial"]),
        "strategy": row["strategy"],
        "classifier": row["classifier"],
        "market": markets.get(row["classifier"]),
        "parameters": {name: value for name, value in parameters.items() if value is not None},
        "in_sample": {name: _plain(row[name]) for name in METRICS},
        "out_of_sample": out_of_sample if out_of_sample["final_equity"] is not None else None,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if value is None or pd.isna(value):
        return None
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _without_none(value: Any) -> Any:
    """TOML has no null: what is undefined is left out."""
    if isinstance(value, Mapping):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_none(v) for v in value]
    return value


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


def load_export(path: str | Path) -> dict[str, Any]:
    """Read an export file.

    Raises:
        ExportError: it cannot be read, or is not one; names the file and the key.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if file.is_dir():
        raise ExportError(f"{file}: a folder; expected a file that `barsweep export` wrote")
    if suffix not in (".json", ".toml"):
        raise ExportError(
            f"{file}: replay reads .json and .toml exports; got {file.suffix or 'no suffix'}"
        )
    try:
        text = file.read_bytes().decode()
        content = json.loads(text) if suffix == ".json" else tomllib.loads(text)
    except FileNotFoundError:
        raise ExportError(f"{file}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"{file}: cannot be read as {suffix[1:].upper()}: {error}") from None
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ExportError(f'{file}: not an export of barsweep: expected kind = "{KIND}"')
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ExportError(
            f"{file}: schema_version: got {content.get('schema_version')!r}; this barsweep reads"
            f" {SCHEMA_VERSION}: export the study again"
        )
    return content


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
        before, now = recorded.get(name), _plain(replayed.get(name))
        same = before == now if before is not None else now is None
        if not same:
            found.append(Difference(sample, name, before, now))
    return found
