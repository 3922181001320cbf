"""Points of the searched space: enumerated, drawn, or suggested by a trial of Optuna's."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import BaseTrial

from optimizer.engine.tasks import TileTask
from optimizer.study_file.searched import Searched
from optimizer.study_file.space import Branch, Space, Value


def sampler_seed(seed: int, batch: int) -> int:
    """The seed of the sampler for one batch, a function of the study's seed and the batch only.

    Args:
        seed: the seed of the study.
        batch: number of the batch, from 0.
    """
    return int(np.random.SeedSequence([seed, batch]).generate_state(1)[0])


def grid_tasks(space: Space) -> Iterator[TileTask]:
    """Every point of every branch, one at a time, in a fixed order.

    Args:
        space: the parameter space of the study.
    """
    for index, branch in enumerate(space.branches):
        for point in branch.points():
            yield TileTask(index, point)


def bulk_tasks(space: Space, sampler: str, seed: int, start: int, count: int) -> list[TileTask]:
    """The points ``start`` to ``start + count - 1`` of a random or quasi-random sequence.

    One coordinate picks the branch, the others its searched parameters. The points are a function of
    the seed and the start only, so that a study can be resumed at any batch.

    Args:
        space: the parameter space of the study.
        sampler: ``random``, or ``qmc`` for a scrambled Sobol sequence (Owen 1998).
        seed: the seed of the study.
        start: number of the first point.
        count: number of points.
    """
    n_dimensions = 1 + max(len(branch.searched) for branch in space.branches)
    if sampler == "qmc":
        from scipy.stats import qmc  # which takes half a second to import

        engine = qmc.Sobol(n_dimensions, scramble=True, rng=np.random.default_rng(seed))
        if start:
            engine.fast_forward(start)
        with warnings.catch_warnings():
            # scipy warns that the sequence is balanced at powers of two only.
            warnings.simplefilter("ignore", UserWarning)
            unit = engine.random(count)
    else:
        unit = np.random.default_rng([seed, start]).random((count, n_dimensions))
    tasks = []
    for row in unit:
        index = min(int(row[0] * len(space.branches)), len(space.branches) - 1)
        branch = space.branches[index]
        point = {
            searched.name: value_at(searched, float(u))
            for searched, u in zip(branch.searched, row[1:], strict=False)
        }
        tasks.append(TileTask(index, point))
    return tasks


def value_at(searched: Searched, u: float) -> Value:
    """The value of a searched parameter at a place in the unit interval.

    Args:
        searched: the parameter.
        u: the place, in [0, 1).
    """
    if searched.choices:
        return searched.choices[min(int(u * len(searched.choices)), len(searched.choices) - 1)]
    low, high = float(searched.low), float(searched.high)
    if searched.log:
        if searched.kind == "int":
            value = math.exp(math.log(low - 0.5) + u * math.log((high + 0.5) / (low - 0.5)))
            return int(min(max(round(value), low), high))
        return math.exp(math.log(low) + u * math.log(high / low))
    if searched.step is None:
        return low + u * (high - low)
    values = searched.n_values
    return searched.value(min(int(u * values), values - 1))


def suggest(space: Space, trial: BaseTrial) -> TileTask:
    """Let a trial choose the branch and the values of its searched parameters.

    Args:
        space: the parameter space of the study.
        trial: a trial that an Optuna study has just asked for, or one of fixed values.

    Returns:
        The tile of the point that was chosen.
    """
    strategies = space.strategy_names
    classifiers = space.classifiers
    strategy, classifier = strategies[0], classifiers[0]
    if len(strategies) > 1:
        strategy = str(trial.suggest_categorical("strategy", strategies))
    if len(classifiers) > 1:
        classifier = str(trial.suggest_categorical("classifier", classifiers))
    index = space.branch_index(strategy, classifier)
    point: dict[str, Value] = {}
    for searched in space.branches[index].searched:
        point[searched.name] = _suggest_value(searched, trial)
    return TileTask(index, point)


def _suggest_value(searched: Searched, trial: BaseTrial) -> Value:
    name, step = searched.name, searched.step
    if searched.choices:
        return trial.suggest_categorical(name, searched.choices)
    if searched.kind == "int":
        low, high = int(searched.low), int(searched.high)
        return trial.suggest_int(name, low, high, step=int(step or 1), log=searched.log)
    return trial.suggest_float(name, searched.low, searched.high, step=step, log=searched.log)


def distribution_of(searched: Searched) -> BaseDistribution:
    """A searched parameter as Optuna describes it.

    Args:
        searched: the parameter.
    """
    if searched.choices:
        return CategoricalDistribution(searched.choices)
    if searched.kind == "int":
        return IntDistribution(
            int(searched.low), int(searched.high), log=searched.log, step=int(searched.step or 1)
        )
    return FloatDistribution(
        float(searched.low), float(searched.high), log=searched.log, step=searched.step
    )


def optuna_parameters(
    space: Space, branch: Branch, point: Mapping[str, Value]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """A point of a branch as Optuna's parameters and their distributions.

    Args:
        space: the parameter space of the study.
        branch: one of its branches.
        point: value of each searched parameter of the branch.

    Returns:
        Both by name, as a trial has them that ``suggest`` was called with.
    """
    params: dict[str, Any] = dict(point)
    distributions = {one.name: distribution_of(one) for one in branch.searched}
    for name, chosen, names in (
        ("strategy", branch.strategy.name, space.strategy_names),
        ("classifier", branch.classifier, space.classifiers),
    ):
        if len(names) > 1:
            params[name] = chosen
            distributions[name] = CategoricalDistribution(names)
    return params, distributions


def new_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """A sampler of Optuna's.

    Args:
        name: ``tpe``, ``nsga2`` or ``cmaes``.
        seed: the seed of the sampler.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "tpe":
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        if name == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed)
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
