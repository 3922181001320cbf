"""barsweep: sweep trading-strategy parameters over real bars.

The public names are loaded when they are first used, so that importing this package costs little.
What it does at once is choose the folder of compiled kernels, before any kernel is imported.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from optimizer import errors
from optimizer.compile_cache import configure as _configure

if TYPE_CHECKING:
    from kernels.codes import FLAT, HOLD, LONG, SHORT
    from kernels.signals import strength_of_score
    from optimizer.backtest import BacktestResult, backtest
    from optimizer.bars import load_bars
    from optimizer.config import load_study, study_from_dict
    from optimizer.data_formats import read_foreign
    from optimizer.data_import import import_bars
    from optimizer.export import export_sets, replay
    from optimizer.figures import heatmap
    from optimizer.look_ahead import look_ahead_check
    from optimizer.overview import compare_studies, list_studies, set_record
    from optimizer.report import write_report
    from optimizer.results import find_sets
    from optimizer.resume import resume_study
    from optimizer.study import StudyResult, run_study
    from optimizer.tearsheet import daily_returns, write_tearsheet
    from optimizer.types import Bars

__all__ = [
    "FLAT",
    "HOLD",
    "LONG",
    "SHORT",
    "BacktestResult",
    "Bars",
    "StudyResult",
    "backtest",
    "compare_studies",
    "daily_returns",
    "errors",
    "export_sets",
    "find_sets",
    "heatmap",
    "import_bars",
    "list_studies",
    "load_bars",
    "load_study",
    "look_ahead_check",
    "read_foreign",
    "replay",
    "resume_study",
    "run_study",
    "set_record",
    "strength_of_score",
    "study_from_dict",
    "write_report",
    "write_tearsheet",
]

_HOMES = {
    "FLAT": "custom",
    "HOLD": "custom",
    "LONG": "custom",
    "SHORT": "custom",
    "BacktestResult": "backtest",
    "Bars": "types",
    "StudyResult": "study",
    "backtest": "backtest",
    "compare_studies": "overview",
    "daily_returns": "tearsheet",
    "export_sets": "export",
    "find_sets": "results",
    "heatmap": "figures",
    "import_bars": "data_import",
    "list_studies": "overview",
    "load_bars": "bars",
    "load_study": "config",
    "look_ahead_check": "look_ahead",
    "read_foreign": "data_formats",
    "replay": "export",
    "resume_study": "resume",
    "run_study": "study",
    "set_record": "overview",
    "strength_of_score": "custom",
    "study_from_dict": "config",
    "write_report": "report",
    "write_tearsheet": "tearsheet",
}
"""The module of each public name."""

_configure()

if not TYPE_CHECKING:  # a module's __getattr__ would let every misspelt name pass

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps ``optimizer.backtest`` the function, whose module has the same name.

    The import system binds a module it has loaded as an attribute of its package.
    ``from optimizer.backtest import ...`` does not look there.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
