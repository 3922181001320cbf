"""barsweep: sweep the parameters of trading strategies over market bars.

The packages are layers; each imports only itself and those before it:

- ``isolation``, ``errors``, ``types``, ``catalogue``, ``text``, ``files``, ``prebuilt``,
  ``compile_cache``, ``extras``, ``versions``: modules that all others use
- ``bars``, ``market``, ``strategies``: bars, their features and regimes, and the rules that trade
- ``study_file``: a study, checked, and the space of parameter sets that it spans
- ``sweep``, ``store``: parameter sets simulated in lanes; the folder of their results
- ``analytics``, ``flow``: the database of the trace; the event flow, one bar at a time
- ``engine``: worker processes, clusters, and several coordinators of one study
- ``selection``, ``review``: whether the winner is luck or skill; studies opened again
- ``trading``: the orders of a set for the next open, and sessions that send them to a broker
- ``search``: the loop of a study, from its file to its verdict
- ``views``, ``bench``, ``project``, ``cli``: what users see: figures, measurements, commands

Public names are loaded when they are first used. Importing this package only chooses the folder of
compiled kernels, and where numba takes its settings from; both must happen before any kernel is
imported.
"""

import os
import sys

# ``python -m optimizer`` puts the working folder first on the path, where a stranger's modules may lie,
# and this package is what it imports first. Until here only modules that Python has loaded at its start
# are safe to import, so not even __future__ is. A checkout that is not installed keeps its folder.
if (
    getattr(sys, "argv", [])[:1] == ["-m"]
    and not sys.flags.safe_path
    and os.path.abspath(sys.path[0]) != os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
):
    del sys.path[0]

import importlib
from typing import TYPE_CHECKING, Any

from optimizer import errors
from optimizer.compile_cache import configure as _configure
from optimizer.isolation import ignore_numba_file as _ignore_numba_file

if TYPE_CHECKING:
    from kernels.codes import BEAR, BULL, FLAT, HOLD, LONG, NEUTRAL, SHORT
    from kernels.signals import strength_of_score
    from optimizer.bars.foreign import read_foreign
    from optimizer.bars.frames import bars_from_frame
    from optimizer.bars.importing import import_bars
    from optimizer.bars.load import load_bars
    from optimizer.flow.given import from_orders, from_signals
    from optimizer.flow.look_ahead import look_ahead_check
    from optimizer.flow.returns import metrics
    from optimizer.review.backtest import backtest
    from optimizer.review.compare import compare_studies
    from optimizer.review.lists import contenders, survivors
    from optimizer.review.records import list_studies, set_record
    from optimizer.review.replay import replay
    from optimizer.review.stress.rows import Stress
    from optimizer.review.stress.run import stress
    from optimizer.review.unseal import unseal_study
    from optimizer.search.calibrate import Calibration, calibrate
    from optimizer.search.combine import CombinedSets, combine
    from optimizer.search.merge import merge_studies
    from optimizer.search.reoptimize import Reoptimization, reoptimize
    from optimizer.search.result import StudyResult
    from optimizer.search.resume import resume_study
    from optimizer.search.run import run_study
    from optimizer.search.sweeping import sweep
    from optimizer.selection.next_set import export_next
    from optimizer.store.export import export_sets
    from optimizer.store.query import find_sets
    from optimizer.strategies.chosen import feature, panel, rank, top, zscore_across
    from optimizer.study_file.load import load_study
    from optimizer.study_file.study import study_from_dict
    from optimizer.sweep.backtest_result import BacktestResult
    from optimizer.trading.book_orders import book_orders
    from optimizer.trading.drift import Drift, drift
    from optimizer.trading.orders import next_orders
    from optimizer.types import Bars
    from optimizer.views.backtest import plot_backtest
    from optimizer.views.drift import write_drift_page
    from optimizer.views.heatmap import heatmap
    from optimizer.views.report import write_report
    from optimizer.views.stress import write_stress_page
    from optimizer.views.study_figures import plot_study
    from optimizer.views.tearsheet import daily_returns, write_tearsheet

__all__ = [
    "BEAR",
    "BULL",
    "FLAT",
    "HOLD",
    "LONG",
    "NEUTRAL",
    "SHORT",
    "BacktestResult",
    "Bars",
    "Calibration",
    "CombinedSets",
    "Drift",
    "Reoptimization",
    "Stress",
    "StudyResult",
    "backtest",
    "bars_from_frame",
    "book_orders",
    "calibrate",
    "combine",
    "compare_studies",
    "contenders",
    "daily_returns",
    "drift",
    "errors",
    "export_next",
    "export_sets",
    "feature",
    "find_sets",
    "from_orders",
    "from_signals",
    "heatmap",
    "import_bars",
    "list_studies",
    "load_bars",
    "load_study",
    "look_ahead_check",
    "merge_studies",
    "metrics",
    "next_orders",
    "panel",
    "plot_backtest",
    "plot_study",
    "rank",
    "read_foreign",
    "reoptimize",
    "replay",
    "resume_study",
    "run_study",
    "set_record",
    "strength_of_score",
    "stress",
    "study_from_dict",
    "survivors",
    "sweep",
    "top",
    "unseal_study",
    "write_drift_page",
    "write_report",
    "write_stress_page",
    "write_tearsheet",
    "zscore_across",
]

_HOMES = {
    "backtest": "optimizer.review.backtest",
    "bars_from_frame": "optimizer.bars.frames",
    "book_orders": "optimizer.trading.book_orders",
    "calibrate": "optimizer.search.calibrate",
    "combine": "optimizer.search.combine",
    "compare_studies": "optimizer.review.compare",
    "contenders": "optimizer.review.lists",
    "daily_returns": "optimizer.views.tearsheet",
    "drift": "optimizer.trading.drift",
    "export_next": "optimizer.selection.next_set",
    "export_sets": "optimizer.store.export",
    "feature": "optimizer.strategies.chosen",
    "find_sets": "optimizer.store.query",
    "from_orders": "optimizer.flow.given",
    "from_signals": "optimizer.flow.given",
    "heatmap": "optimizer.views.heatmap",
    "import_bars": "optimizer.bars.importing",
    "list_studies": "optimizer.review.records",
    "load_bars": "optimizer.bars.load",
    "load_study": "optimizer.study_file.load",
    "look_ahead_check": "optimizer.flow.look_ahead",
    "merge_studies": "optimizer.search.merge",
    "metrics": "optimizer.flow.returns",
    "next_orders": "optimizer.trading.orders",
    "panel": "optimizer.strategies.chosen",
    "plot_backtest": "optimizer.views.backtest",
    "plot_study": "optimizer.views.study_figures",
    "rank": "optimizer.strategies.chosen",
    "read_foreign": "optimizer.bars.foreign",
    "reoptimize": "optimizer.search.reoptimize",
    "replay": "optimizer.review.replay",
    "resume_study": "optimizer.search.resume",
    "run_study": "optimizer.search.run",
    "set_record": "optimizer.review.records",
    "strength_of_score": "kernels.signals",
    "stress": "optimizer.review.stress.run",
    "study_from_dict": "optimizer.study_file.study",
    "sweep": "optimizer.search.sweeping",
    "top": "optimizer.strategies.chosen",
    "unseal_study": "optimizer.review.unseal",
    "survivors": "optimizer.review.lists",
    "write_drift_page": "optimizer.views.drift",
    "write_report": "optimizer.views.report",
    "write_stress_page": "optimizer.views.stress",
    "write_tearsheet": "optimizer.views.tearsheet",
    "zscore_across": "optimizer.strategies.chosen",
    "BacktestResult": "optimizer.sweep.backtest_result",
    "Bars": "optimizer.types",
    "Calibration": "optimizer.search.calibrate",
    "CombinedSets": "optimizer.search.combine",
    "BEAR": "kernels.codes",
    "BULL": "kernels.codes",
    "FLAT": "kernels.codes",
    "HOLD": "kernels.codes",
    "LONG": "kernels.codes",
    "NEUTRAL": "kernels.codes",
    "SHORT": "kernels.codes",
    "Drift": "optimizer.trading.drift",
    "Reoptimization": "optimizer.search.reoptimize",
    "Stress": "optimizer.review.stress.rows",
    "StudyResult": "optimizer.search.result",
}
"""The module of each public name."""

_ignore_numba_file()
_configure()


def _public(name: str) -> Any:
    """The public object of a name, from its module."""
    return getattr(importlib.import_module(_HOMES[name]), name)


if not TYPE_CHECKING:  # a module's __getattr__ would let every misspelt name pass

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        # A package of this one has the name too; calling it calls the function.
        value = importlib.import_module("optimizer.sweep") if name == "sweep" else _public(name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
