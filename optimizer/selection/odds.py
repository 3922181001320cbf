"""Odds of a study's sets, deflated by the number of sets ever tried on the bars."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from optimizer.selection.p_values import family_wise
from optimizer.selection.record import Selection, SetStatistics
from optimizer.selection.sharpe import (
    deflated_sharpe_ratio,
    probabilistic_sharpe_ratio,
    saturating_number,
)
from optimizer.selection.tried import Tried, own_draws


def tries_of(selection: Selection, n_tried: int) -> tuple[int, float, float]:
    """What the odds of a study's sets are deflated by.

    Sets that other studies tried count like this study's own. How far apart their Sharpe ratios are
    is not known. They are taken to vary by what luck alone gives over as many returns, or as
    this study's own, whichever is more. So a study that tries nothing but another one's winner is
    deflated too.

    Args:
        selection: the ``[selection]`` settings of the study.
        n_tried: sets ever tried on the bars, over all studies; the study's own count in any case.

    Returns:
        Number of sets tried, number of independent sets that they are worth, and the variance of
        their annualized Sharpe ratios.
    """
    n_tried = max(n_tried, selection.n_tried)
    own = selection.sharpe_deviation**2
    others = max(own, selection.returns_per_year / selection.n_returns)
    share = selection.n_tried / n_tried
    variance = share * own + (1.0 - share) * others
    effective = saturating_number(
        n_tried, selection.n_effective, selection.n_tried, selection.independent_share
    )
    return n_tried, effective, variance


def sharpe_to_expect(selection: Selection | None, sharpe: float | None) -> float | None:
    """The Sharpe ratio to expect of a set of a study, which somebody chooses for its own.

    Args:
        selection: what the study recorded about its choice; None before its end.
        sharpe: the in-sample Sharpe ratio of the set, annualized; None where undefined.

    Returns:
        Its own less what that of the winner loses; None where that is unknown.
    """
    if selection is None or selection.sharpe_to_expect is None or sharpe is None:
        return None
    winner = selection.sets[0].sharpe
    return None if winner is None else sharpe - (winner - selection.sharpe_to_expect)


def deflated(selection: Selection, tried: Tried) -> Selection:
    """A selection with the odds of its sets corrected for all sets ever tried on the bars.

    Args:
        selection: the ``[selection]`` settings of the study.
        tried: what ``judge`` takes.
    """
    sets = tuple(deflated_statistics(selection, one, tried) for one in selection.sets)
    return replace(selection, sets=sets)


def deflated_statistics(selection: Selection, one: SetStatistics, tried: Tried) -> SetStatistics:
    """The statistics of one set, corrected for the sets ever tried on the bars.

    Args:
        selection: the ``[selection]`` settings of the study.
        one: statistics of the set.
        tried: what ``judge`` takes.
    """
    n_tried, effective, variance = tries_of(selection, tried.n_sets)
    return replace(
        one,
        dsr=_deflated_sharpe(selection, one, effective, variance),
        raw_dsr=_deflated_sharpe(selection, one, n_tried, variance),
        own_p=family_wise(one.alpha_t, own_draws(selection)),
        p=family_wise(one.alpha_t, tried.maxima),
    )


def _deflated_sharpe(
    selection: Selection, one: SetStatistics, n_trials: float, variance: float
) -> float | None:
    """Deflated Sharpe ratio, None where the set has no Sharpe ratio.

    Args:
        selection: of the study.
        one: statistics of the set.
        n_trials: independent sets tried.
        variance: of the annualized Sharpe ratios of the sets.
    """
    if one.sharpe is None or one.skewness is None or one.kurtosis is None:
        return None
    yearly = math.sqrt(selection.returns_per_year)
    return none_if_nan(
        deflated_sharpe_ratio(
            one.sharpe / yearly,
            selection.n_returns,
            one.skewness,
            _possible(one.skewness, one.kurtosis),
            variance / selection.returns_per_year,
            max(n_trials, 1.0),
            one.autocorrelation or 0.0,
        )
    )


def set_statistics(
    selection: Selection,
    row: Mapping[Any, Any],
    tried: Tried,
    autocorrelation: float | None = None,
) -> SetStatistics:
    """The odds of one set of a study.

    Args:
        selection: the ``[selection]`` settings of the study.
        row: the row of the set, as in the study's results; its out-of-sample metrics where they may be
            shown.
        tried: what ``judge`` takes.
        autocorrelation: correlation of each of its in-sample returns with the one before, if known.
    """
    yearly = math.sqrt(selection.returns_per_year)

    def psr(prefix: str, n_returns: int) -> float | None:
        values = [known(row.get(prefix + name)) for name in ("sharpe", "skewness", "kurtosis")]
        if None in values:
            return None
        sharpe, skewness, kurtosis = (float(v or 0.0) for v in values)
        return none_if_nan(
            probabilistic_sharpe_ratio(
                sharpe / yearly,
                n_returns,
                skewness,
                _possible(skewness, kurtosis),
                autocorrelation=autocorrelation or 0.0,
            )
        )

    one = SetStatistics(
        number=int(row["set"]),
        sharpe=known(row.get("sharpe")),
        skewness=known(row.get("skewness")),
        kurtosis=known(row.get("kurtosis")),
        oos_sharpe=known(row.get("oos_sharpe")),
        psr=psr("", selection.n_returns),
        oos_psr=psr("oos_", selection.n_holdout_returns),
        autocorrelation=autocorrelation,
        alpha=known(row.get("alpha")),
        alpha_t=known(row.get("alpha_t")),
    )
    return deflated_statistics(selection, one, tried)


def odds_of(selection: Selection, row: Mapping[Any, Any], tried: Tried) -> SetStatistics:
    """The odds of one set of a study that was judged, out-of-sample as far as its row shows that.

    Args:
        selection: the ``[selection]`` settings of the study, see ``deflated``.
        row: the row of the set, as in the study's results; its out-of-sample metrics where they may be
            shown.
        tried: what ``judge`` takes.
    """
    recorded = next((one for one in selection.sets if one.number == int(row["set"])), None)
    if recorded is None:
        return set_statistics(selection, row, tried)
    if recorded.oos_psr is not None:
        return recorded
    # The verdict has not looked at it, but it may have been unsealed since.
    found = set_statistics(selection, row, tried, recorded.autocorrelation)
    return replace(recorded, oos_sharpe=found.oos_sharpe, oos_psr=found.oos_psr)


def _possible(skewness: float, kurtosis: float) -> float:
    """The kurtosis, raised to the least that the skewness allows: both come from rounded sums."""
    return max(kurtosis, 1.0 + skewness**2)


def none_if_nan(value: float) -> float | None:
    """The value, or None where it is not finite.

    Args:
        value: a number, NaN or infinite where it is undefined.
    """
    return value if math.isfinite(value) else None


def known(value: Any) -> float | None:
    """A number that may be undefined.

    Args:
        value: a number, NaN or None.

    Returns:
        The number; None if undefined.
    """
    return None if value is None or pd.isna(value) else float(value)
