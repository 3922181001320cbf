"""The portfolios of an event flow: which parameter sets run, and their IDs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from optimizer.flow.services.risk import RiskConfig
from optimizer.flow.services.strategy import StrategyConfig
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.sweep.costs import Costs
from optimizer.sweep.inputs import RegimeKey
from optimizer.sweep.rules import Rules
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars


def short_hash(value: object) -> str:
    """The hash of a JSON value for correlation IDs: eight hexadecimal digits.

    Args:
        value: a value that JSON can hold.
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True, eq=False)
class PortfolioSpec:
    """One parameter set as the flow runs it.

    Attributes:
        id: depends only on the study, its bars and the parameters.
        strategy_name, classifier_name: names.
        parameters: the parameters by column name, read-only.
        strategy: makes its signals.
        signal_key: names its signals; portfolios with the same strategy share them, but for a strategy
            that reads the position, and for one that reads the regime those under the same model.
        regime: the regime model.
        regime_key: names its regimes.
        risk: sizes its positions.
        costs: the costs of its fills.
    """

    id: str
    strategy_name: str
    classifier_name: str
    parameters: Mapping[str, float]
    strategy: StrategyConfig
    signal_key: str
    regime: RegimeKey
    regime_key: str
    risk: RiskConfig
    costs: Costs


def portfolio_specs(
    tile: Tile, owner: str, rules: Rules, bars_per_year: float
) -> list[PortfolioSpec]:
    """Every parameter set of a tile as a portfolio of the flow.

    Args:
        tile: parameter sets.
        owner: begins the IDs.
        rules: the rules of the study.
        bars_per_year: the number of bars in a year.
    """
    keys, which = tile.regime_keys()
    specs = []
    for lane in range(tile.n_lanes):
        parameters = {name: float(values[lane]) for name, values in tile.columns.items()}
        own = tile.strategy.own(parameters)
        sizes = [parameters["volatility_lookback"], parameters["expected_sharpe"]]
        regime = keys[which[lane]]
        named = [str(regime[0]), *regime[1:]]
        everything = [tile.strategy.name, tile.classifier, tile.market, parameters]
        asked = [named] if tile.strategy.regime_values else []
        seen: list[object] = [tile.strategy.name, own, *sizes, *asked]
        if tile.strategy.position_values:
            seen = list(everything)
        specs.append(
            PortfolioSpec(
                id=f"{owner}.{short_hash(everything)}",
                strategy_name=tile.strategy.name,
                classifier_name=tile.classifier,
                parameters=MappingProxyType(parameters),
                strategy=StrategyConfig.of(tile.strategy, parameters, bars_per_year),
                signal_key=f"{owner}.{short_hash(seen)}",
                regime=regime,
                regime_key=f"{owner}.{short_hash(named)}",
                risk=RiskConfig.of(parameters, rules, bars_per_year),
                costs=Costs.of(parameters, rules, bars_per_year),
            )
        )
    return specs


def study_specs(
    study: Study,
    space: Space,
    rules: Rules,
    bars: Bars,
    risk: Literal["first", "all"] = "first",
    data_hash: str | None = None,
) -> Iterator[PortfolioSpec]:
    """Every combination of a study's grid as a portfolio.

    Args:
        study: whose searched parameters are all listed.
        space, rules: the parameter space and the rules of the study.
        bars: the bars of the study; others make another flow.
        risk: ``first`` takes the first swept value of each tile, ``all`` takes all.
        data_hash: the hash of bars from which IDs are made; None takes that of ``bars``.

    Raises:
        StudyFileError: a searched parameter is continuous.
    """
    owner = short_hash([study.content_hash, data_hash or bars.content_hash])
    for branch in space.branches:
        for point in branch.points():
            lanes = branch.lanes(point, 0, 1 if risk == "first" else None)
            yield from portfolio_specs(Tile.of(branch, lanes), owner, rules, bars.bars_per_year)
