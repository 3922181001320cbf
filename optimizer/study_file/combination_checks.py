"""What several strategies in one account need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from kernels import layout
from optimizer.strategies.combined import RULES, SHARE, CombinedStrategy
from optimizer.study_file.values import Problem
from optimizer.text import quoted

if TYPE_CHECKING:
    from optimizer.study_file.study import Study


def combination_problems(study: Study) -> Iterable[Problem]:
    """Every problem with ``[strategies]``, and with what strategies are given for it.

    Args:
        study: the study, whose tables have been checked one by one.
    """
    combination, tables = study.combination, study.strategies
    if not combination.together:
        if combination.rule is not None:
            yield (
                ("strategies", "rule"),
                f"{quoted(combination.rule)} says how strategies share an account; set combine ="
                ' "together", or leave it out',
            )
    elif len(tables) < 2:
        yield (
            ("strategies", "combine"),
            '"together" needs two or more [[strategy]] tables and there is one; add another, or leave'
            " [strategies] out",
        )
    elif combination.rule is None:
        yield ("strategies", "rule"), f"missing; valid: {', '.join(RULES)}"
    for index, table in enumerate(tables):
        own = {one.name for one in table.strategy.parameters}
        if combination.rule == "sum" and SHARE.name in own:
            yield (
                ("strategy", index, "name"),
                f"{table.name} has a parameter {SHARE.name} of its own, which is what a strategy counts"
                ' with rule = "sum"; give the parameter another name in its file',
            )
        elif combination.rule != "sum" and SHARE.name in table.settings and SHARE.name not in own:
            yield (
                ("strategy", index, SHARE.name),
                'is read with [strategies] rule = "sum" alone; leave it out, or set that rule',
            )
    if combination.together and combination.rule is not None and len(tables) > 1:
        yield from _too_many(
            CombinedStrategy.of([one.strategy for one in tables], combination.rule)
        )


def _too_many(combined: CombinedStrategy) -> Iterable[Problem]:
    names = combined.columns
    for name in sorted({name for name in names if names.count(name) > 1}):
        if not name.endswith(f"_{SHARE.name}"):
            yield (
                ("strategy", "name"),
                f"two strategies have a parameter whose column is {name}; name one of them otherwise",
            )
    n_columns = len(combined.features) + len(combined.regime_values)
    for what, count, most in (
        (
            "features and probabilities" if combined.regime_values else "features",
            n_columns,
            layout.MAX_USER_FEATURES,
        ),
        ("parameters", combined.n_signal_values, layout.MAX_SIGNAL_PARAMETERS),
    ):
        if count > most:
            yield (
                ("strategies", "combine"),
                f"the strategies together take {count} {what}; at most {most}: leave one out",
            )
