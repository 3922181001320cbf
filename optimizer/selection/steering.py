"""Whether the parameter sets that a study tries depend on its results."""

from __future__ import annotations

from optimizer.study_file.search_tables import ADAPTIVE
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study


def steered(study: Study, space: Space) -> bool:
    """Whether the sets that a study tries depend on the results of earlier ones.

    Args:
        study: the study in question.
        space: the parameter space of the study.
    """
    return study.search.sampler in ADAPTIVE and space.n_points != 1


def by_sharpe_alone(study: Study) -> bool:
    """Whether the best set of any bars is the one with the highest Sharpe ratio over them.

    Then it follows from the return moments of blocks. Constraints on results, other objectives and other
    values of a tile do not.

    Args:
        study: the study in question.
    """
    search = study.search
    return (
        search.objective == ("sharpe",)
        and search.direction == ("maximize",)
        and search.tile_value == "best"
        and not any(constraint.on_result for constraint in search.constraints)
    )


def needs_own_searches(study: Study, space: Space) -> bool:
    """Whether each window of a walk-forward needs a search of its own.

    It does not where the sets tried depend on no result and ``by_sharpe_alone`` holds. A sampler that
    goes by earlier results has seen all in-sample bars.

    Args:
        study: the study in question.
        space: the parameter space of the study.
    """
    return steered(study, space) or not by_sharpe_alone(study)
