"""Load the bars that a study names."""

from __future__ import annotations

from optimizer.bars.load import load_bars
from optimizer.study_file.study import Study
from optimizer.types import Bars


def load_study_bars(study: Study) -> Bars:
    """The bars that a study names.

    Args:
        study: with its folder.

    Raises:
        DataError: they cannot be used.
    """
    data = study.data
    return load_bars(
        study.data_path,
        symbols=data.symbols,
        start=data.start,
        end=data.end,
        align=data.align,
        timezone=data.timezone,
        bars_per_year=data.bars_per_year,
        bar=data.bar,
    )
