"""The space of parameter sets that a study spans: branches, searched points, tiles of swept lanes.

The space itself is never in memory: points and lanes are computed from their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.catalogue import COSTS, RISK, Parameter, column
from optimizer.errors import StudyFileError
from optimizer.strategies.combined import SHARE, CombinedStrategy
from optimizer.strategies.strategy import Strategy
from optimizer.strategies.user import UserStrategy
from optimizer.strategies.user_classifier import UserClassifier
from optimizer.study_file.components import ClassifierTable, StrategyTable
from optimizer.study_file.constraints import Constraint
from optimizer.study_file.searched import Searched, searched_of
from optimizer.study_file.settings import Choices, Range, Setting, Span, Sweep
from optimizer.study_file.study import Study
from optimizer.types import FloatArray

Value = int | float | str | bool


@dataclass(frozen=True)
class Branch:
    """The parameter sets of one strategy under one classifier.

    Each point of the searched parameters is a tile: the cross product of the swept ones.

    Attributes:
        strategy: the strategy.
        classifier: name of the regime classifier.
        market: the symbol whose regime it is; None is the index of all symbols.
        fixed: value of each parameter that is neither searched nor swept, and ``allow_short``.
        searched: the searched parameters in the order of the catalogue: strategy, classifier, risk,
            costs.
        swept: values of each swept parameter, ascending. Those that change what a lane reads
            (lookbacks, regime models) come first, so that neighbouring lanes share it; otherwise in
            the order of the catalogue.
        columns: names of all its numeric parameters, in the order of the catalogue.
        constraints: those that need only its parameters.
        source: what messages call the study.
        own_classifier: the classifier, where it is the user's own; else None.
    """

    strategy: Strategy
    classifier: str
    market: str | None
    fixed: Mapping[str, Value]
    searched: tuple[Searched, ...]
    swept: Mapping[str, tuple[float, ...]]
    columns: tuple[str, ...]
    constraints: tuple[Constraint, ...] = ()
    source: str = "<study>"
    own_classifier: UserClassifier | None = None

    @property
    def n_lanes(self) -> int:
        """Parameter sets of one tile, before constraints."""
        return math.prod(len(values) for values in self.swept.values())

    @property
    def n_points(self) -> int | None:
        """Points of the searched space; None if a searched parameter is continuous."""
        if any(searched.continuous for searched in self.searched):
            return None
        return math.prod(searched.n_values for searched in self.searched)

    @property
    def varying(self) -> tuple[str, ...]:
        """Names of its searched and swept parameters."""
        return (*(searched.name for searched in self.searched), *self.swept)

    def point(self, index: int) -> dict[str, Value]:
        """The point at ``index`` of ``n_points``, from 0; the last searched parameter changes fastest.

        Args:
            index: below ``n_points``.

        Raises:
            StudyFileError: a searched parameter is continuous.
        """
        values: list[Value] = []
        for searched in reversed(self.searched):
            index, place = divmod(index, self._n_values(searched))
            values.append(searched.value(place))
        return dict(
            zip((searched.name for searched in self.searched), reversed(values), strict=True)
        )

    def points(self) -> Iterator[dict[str, Value]]:
        """All points, one at a time.

        They include points at which every lane breaks a constraint.

        Raises:
            StudyFileError: a searched parameter is continuous; raised before the first point.
        """
        n_points = math.prod(self._n_values(searched) for searched in self.searched)
        return map(self.point, range(n_points))

    def lanes(
        self, point: Mapping[str, Value], start: int = 0, stop: int | None = None
    ) -> dict[str, FloatArray]:
        """The parameter sets of the tile at ``point``.

        Args:
            point: value of each searched parameter.
            start: first lane wanted, counted before constraints.
            stop: the lane after the last one; None takes all.

        Returns:
            All of ``columns``, each of shape (n_lanes,), read-only: the cross product of the swept
            values, the last name of ``swept`` fastest, without the lanes that break a constraint.
            They may be empty.

        Raises:
            ValueError: ``point`` names other parameters than the searched ones, or has a value
                that its parameter cannot take.
        """
        names = [searched.name for searched in self.searched]
        if set(point) != set(names):
            raise ValueError(f"point with {sorted(point)}; expected {sorted(names)}")
        single = {name: self._number(name) for name in self.columns if name in self.fixed}
        single |= {one.name: one.snap(point[one.name]) for one in self.searched}
        lane = np.arange(start, self.n_lanes if stop is None else min(stop, self.n_lanes))
        swept: dict[str, FloatArray] = {}
        stride = self.n_lanes
        for name, values in self.swept.items():
            stride //= len(values)
            swept[name] = np.asarray(values, dtype=np.float64)[lane // stride % len(values)]
        kept = np.ones(len(lane), dtype=np.bool_)
        for constraint in self.constraints:
            kept &= constraint.holds({**single, **swept})
        n_kept = int(np.count_nonzero(kept))
        tile: dict[str, FloatArray] = {}
        for name in self.columns:
            if name in swept:
                tile[name] = swept[name] if n_kept == len(lane) else swept[name][kept]
                tile[name].flags.writeable = False
            else:
                tile[name] = np.broadcast_to(np.float64(single[name]), n_kept)
        return tile

    def first_set(self) -> dict[str, FloatArray]:
        """The first parameter set of the first point, whether or not it breaks a constraint.

        Returns:
            All of ``columns``, each of shape (1,).
        """
        point = {searched.name: searched.first for searched in self.searched}
        return replace(self, constraints=()).lanes(point, 0, 1)

    def values(self, name: str, every: bool = False) -> tuple[float, ...]:
        """The values that column ``name`` takes in this branch, ascending.

        Only the two ends of a searched range of floats: it may have too many values to list.

        Args:
            name: the name of a numeric column.
            every: whether to list those of a searched range of floats too, which then has a step.

        Raises:
            KeyError: the branch has no such column.
        """
        if name in self.swept:
            return self.swept[name]
        for searched in self.searched:
            if searched.name == name:
                if searched.kind == "float" and not every:
                    return tuple(sorted({searched.low, searched.high}))
                return tuple(sorted(searched.value(i) for i in range(searched.n_values)))
        return (self._number(name),)

    def _number(self, name: str) -> float:
        value = self.fixed[name]
        if isinstance(value, str):
            raise KeyError(name)
        return value

    def _n_values(self, searched: Searched) -> int:
        try:
            return searched.n_values
        except StudyFileError as error:
            raise StudyFileError(f"{self.source}: {error}") from None


@dataclass(frozen=True)
class Space:
    """All parameter sets that a study may try.

    Attributes:
        branches: each strategy under each classifier, in the order of the study file.
    """

    branches: tuple[Branch, ...]

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """Each strategy once, in the order of the study file."""
        return tuple(dict.fromkeys(branch.strategy for branch in self.branches))

    @property
    def user_strategies(self) -> tuple[UserStrategy, ...]:
        """Those of ``strategies``, or of which they are made, that are the user's own."""
        members = dict.fromkeys(one for strategy in self.strategies for one in strategy.members)
        return tuple(one for one in members if isinstance(one, UserStrategy))

    @property
    def strategy_names(self) -> tuple[str, ...]:
        """Names, in the order of the study file."""
        return tuple(strategy.name for strategy in self.strategies)

    @property
    def classifiers(self) -> tuple[str, ...]:
        """Names, in the order of the study file."""
        return tuple(dict.fromkeys(branch.classifier for branch in self.branches))

    @property
    def user_classifiers(self) -> tuple[UserClassifier, ...]:
        """Classifiers of the user's own, in the order of the study file."""
        found = dict.fromkeys(branch.own_classifier for branch in self.branches)
        return tuple(one for one in found if one is not None)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Columns of all branches, each once, in the order of their first branch."""
        return tuple(dict.fromkeys(name for branch in self.branches for name in branch.columns))

    @property
    def varying(self) -> tuple[str, ...]:
        """Names of the parameters that a branch searches or sweeps, each once."""
        return tuple(dict.fromkeys(name for branch in self.branches for name in branch.varying))

    @property
    def n_points(self) -> int | None:
        """Points of all branches; None if a searched parameter is continuous."""
        counts = [branch.n_points for branch in self.branches]
        return None if None in counts else sum(count or 0 for count in counts)

    @property
    def n_sets(self) -> int | None:
        """Parameter sets of all branches, before constraints; None like ``n_points``."""
        if self.n_points is None:
            return None
        return sum((branch.n_points or 0) * branch.n_lanes for branch in self.branches)

    @property
    def takes_probabilities(self) -> bool:
        """Whether a strategy takes probabilities of the regime."""
        return any(branch.strategy.regime_values for branch in self.branches)

    def branch_index(self, strategy: str, classifier: str) -> int:
        """The place in ``branches`` of a strategy under a classifier, both given by name.

        Args:
            strategy: name.
            classifier: name.

        Raises:
            KeyError: there is no such branch.
        """
        for index, branch in enumerate(self.branches):
            if (branch.strategy.name, branch.classifier) == (strategy, classifier):
                return index
        raise KeyError((strategy, classifier))

    def values(self, owner: str, parameter: str) -> tuple[float, ...]:
        """Every value that a parameter takes anywhere in the space, ascending.

        Args:
            owner: a strategy, a classifier, ``risk`` or ``costs``.
            parameter: its parameter, whose values can be listed.

        Raises:
            KeyError: no branch has it.
        """
        return self.column_values(column(owner, parameter))

    def column_values(self, name: str) -> tuple[float, ...]:
        """Every value that a column takes anywhere in the space, ascending.

        Args:
            name: the column of a parameter whose values can be listed.

        Raises:
            KeyError: no branch has it.
        """
        found = {
            value
            for branch in self.branches
            if name in branch.columns
            for value in branch.values(name, every=True)
        }
        if not found:
            raise KeyError(name)
        return tuple(sorted(found))

    def lookbacks(self, owner: str, parameter: str) -> tuple[int, ...]:
        """The values of a whole-number parameter, see ``values``.

        Args:
            owner: a strategy, a classifier, ``risk`` or ``costs``.
            parameter: its parameter.

        Raises:
            KeyError: no branch has it.
        """
        return tuple(int(value) for value in self.values(owner, parameter))


def build_space(study: Study) -> Space:
    """The space of a study.

    Args:
        study: checked; lengths of time in it as numbers of bars, unless only names are wanted.
    """
    strategies = study.strategies
    if study.combination.together:
        strategies = (_combined(strategies, str(study.combination.rule)),)
    return Space(
        tuple(
            _branch(study, strategy, classifier)
            for strategy in strategies
            for classifier in study.classifiers
        )
    )


def _combined(tables: Sequence[StrategyTable], rule: str) -> StrategyTable:
    """The strategies of a study as one, with the settings of all by column."""
    combined = CombinedStrategy.of([table.strategy for table in tables], rule)
    settings: dict[str, Setting] = {
        table.strategy.column(name): setting
        for table in tables
        for name, setting in {SHARE.name: SHARE.default, **table.settings}.items()
    }
    return StrategyTable.model_construct(
        strategy=combined, settings={name: settings[name] for name in combined.columns}
    )


def _branch(study: Study, strategy: StrategyTable, classifier: ClassifierTable) -> Branch:
    chosen = strategy.strategy
    owned: list[tuple[str, Parameter, Setting]] = [
        (chosen.column(parameter.name), parameter, strategy.settings[parameter.name])
        for parameter in chosen.parameters
    ]
    owned += [
        (column(owner, parameter.name), parameter, settings[parameter.name])
        for owner, parameters, settings in (
            (classifier.name, classifier.parameters, classifier.settings),
            ("risk", RISK, study.risk.settings),
            ("costs", COSTS, study.costs.settings),
        )
        for parameter in parameters
    ]
    fixed: dict[str, Value] = {"allow_short": study.risk.allow_short}
    searched: list[Searched] = []
    swept: list[tuple[str, Parameter, tuple[float, ...]]] = []
    for name, parameter, setting in owned:
        if isinstance(setting, Sweep):
            swept.append((name, parameter, setting.values))
        elif isinstance(setting, (Range, Choices)):
            searched.append(searched_of(name, parameter, setting))
        elif isinstance(setting, Span):
            fixed[name] = str(setting)  # its number of bars is known with the bars, see ``in_bars``
        else:
            fixed[name] = setting
    swept.sort(key=lambda item: item[1].role not in ("feature", "regime"))
    columns = tuple(name for name, _, _ in owned)
    return Branch(
        strategy=strategy.strategy,
        classifier=classifier.name,
        market=classifier.market,
        fixed=fixed,
        searched=tuple(searched),
        swept={name: values for name, _, values in swept},
        columns=columns,
        constraints=tuple(
            constraint
            for constraint in study.search.constraints
            if set(constraint.names) <= set(columns)
        ),
        source=study.source,
        own_classifier=classifier.own,
    )
