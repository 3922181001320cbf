"""A study in one call, on bars in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from optimizer.catalogue import COSTS, RISK
from optimizer.errors import StudyError, StudyFileError
from optimizer.files import cannot_write, write_atomically
from optimizer.search.result import StudyResult
from optimizer.search.resume import resume_study
from optimizer.search.run import run_study
from optimizer.store.folder import StudyFolder
from optimizer.store.names import MANIFEST
from optimizer.strategies.built_in import BUILT_IN
from optimizer.study_file.bars import load_study_bars
from optimizer.study_file.components import RISK_OPTIONS
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import Study, study_from_dict
from optimizer.text import quoted
from optimizer.types import Bars

_TABLES = (
    *("study", "data", "strategies", "risk", "costs", "account", "instruments", "search"),
    *("validation", "workers"),
)
"""Tables of a study file that may be given whole."""

_RISK = frozenset((*(one.name for one in RISK), *RISK_OPTIONS))
_COSTS = frozenset(one.name for one in COSTS)


def sweep(
    bars: Bars,
    strategy: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    *,
    out: str | os.PathLike[str] | None = None,
    workers: int | None = None,
    classifier: str | Mapping[str, Any] = "none",
    **settings: Any,
) -> StudyResult:
    """Try every combination of some parameters on bars in memory.

    This is a study as any other: it has a folder, its holdout stays sealed, and the ledger notes what
    it tried. The bars are written next to the folder. The same call again on the same bars opens the
    study that is there, and finishes it if it was interrupted.

    >>> import optimizer
    >>> bars = optimizer.load_bars("bars.parquet")
    >>> result = optimizer.sweep(bars, "momentum", lookback=[20, 60], threshold=[0.0, 0.02], workers=1)
    >>> result.results()[["momentum_lookback", "momentum_threshold"]].to_numpy().tolist()
    [[20.0, 0.0], [20.0, 0.02], [60.0, 0.0], [60.0, 0.02]]

    Args:
        bars: the bars of all symbols, in order of name.
        strategy: the name of a built-in strategy, or the Python file of your own, which is run; or the
            tables of several strategies as in the study file, whose parameters then stand there.
        out: folder of the study; None takes ``out/sweep-<hash of the study>``.
        workers: number of processes, 0 for one per core; None takes the study's. Never changes a
            result.
        classifier: the name of a regime classifier, or its table of the study file.
        **settings: parameters of the strategy, the risk and the costs, of which a list is swept and all
            else is as in the study file, and whole tables, such as ``search={"trials": 20}``,
            ``data={"exchange": "XNYS"}`` or ``strategies={"combine": "together", "rule": "vote"}``.

    Returns:
        The complete study; ``results()`` is the table of its sets.

    Raises:
        StudyFileError: a setting is unknown or out of bounds.
        StrategyError: the file of a strategy cannot be used.
        DataError: the bars cannot be used.
        StudyError: the folder holds another study or cannot be written, or the bars cannot be kept.
    """
    tables = _tables(strategy, classifier, settings)
    folder = Path("out" if out is None else Path(out).parent)
    tables["data"] = {**_data(bars), **tables.get("data", {})}
    study = study_from_dict(tables, folder)
    path = folder / f"sweep-{study.content_hash[:12]}" if out is None else Path(out)
    if (path / MANIFEST).is_file() and _is_of(StudyFolder.open(path), study, bars):
        return resume_study(path, workers=workers)
    _keep(bars, study)
    return run_study(study, out=path, workers=workers)


def _tables(
    strategy: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    classifier: str | Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """The tables of the study but for its bars."""
    own: Any = {"name": strategy}
    known: set[str] = set()
    if not isinstance(strategy, (str, os.PathLike)):
        own = [dict(one) if isinstance(one, Mapping) else one for one in strategy]
    elif isinstance(strategy, os.PathLike) or strategy.endswith(".py"):
        file = Path(strategy)
        own = {"name": file.stem, "path": str(file.resolve())}
    elif strategy in BUILT_IN:
        known = {one.name for one in BUILT_IN[strategy].parameters}
    tables: dict[str, Any] = {
        "study": {"name": "sweep"},
        "strategy": own,
        "classifier": dict(classifier) if isinstance(classifier, Mapping) else {"name": classifier},
        "risk": {},
        "costs": {},
    }
    for name, value in settings.items():
        if name in _TABLES:
            if not isinstance(value, Mapping):
                raise StudyFileError(f"<study>: [{name}]: got {quoted(value)}; expected a table")
            tables[name] = {**tables.get(name, {}), **value}
    for name, value in settings.items():
        if name in _TABLES:
            continue
        places = (("strategy", known), ("risk", _RISK), ("costs", _COSTS))
        table = next((table for table, names in places if name in names), "strategy")
        if table == "strategy" and isinstance(own, list):
            raise StudyFileError(
                f"<study>: {name}: with several strategies, give each its parameters in its own table,"
                ' such as {"name": "momentum", "lookback": 20}'
            )
        tables[table][name] = _swept(value)
    return tables


def _swept(value: Any) -> Any:
    """A setting as the study file has it."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    return {"sweep": list(value)} if isinstance(value, (list, tuple, range)) else value


def _data(bars: Bars) -> dict[str, Any]:
    """``[data]`` of bars in memory: a file that is named after what it holds."""
    paid = {} if bars.payments is None else {"funding": "funding", "dividends": "dividends"}
    return {
        "path": f"bars-{bars.content_hash[:12]}.parquet",
        "align": "inner" if bars.present is None else "outer",
        "bars_per_year": bars.bars_per_year,
        **paid,
    }


def _is_of(folder: StudyFolder, study: Study, bars: Bars) -> bool:
    manifest = folder.manifest()
    # A study is recorded with numbers of bars in place of lengths of time.
    hashes = in_bars(study, bars).content_hash, bars.content_hash
    return (manifest["study_hash"], manifest["data_hash"]) == hashes


def _keep(bars: Bars, study: Study) -> None:
    """Write the bars to the file that the study names, and see that it gives them back."""
    path = study.data_path
    if not path.is_file():
        frame = bars.to_frame()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, lambda part: frame.to_parquet(part, index=False))
        except OSError as error:
            raise cannot_write(path, error) from None
    kept = load_study_bars(study)
    same_volume = np.array_equal(np.asarray(kept.has_volume), np.asarray(bars.has_volume))
    if kept.content_hash != bars.content_hash or not same_volume:
        raise StudyError(
            f"{path}: does not give these bars back to the bit; symbols must be in order of name, and"
            " bars with funding, or cut from longer ones, need a study file that names their own file"
        )
