"""The best parameter sets of a study, from its result files."""

from __future__ import annotations

import pandas as pd

from optimizer.catalogue import METRICS
from optimizer.config import Search
from optimizer.store import StudyFolder


def best_sets(folder: StudyFolder, search: Search, top: int) -> pd.DataFrame:
    """The best feasible parameter sets of a study, best first; ties in the order of the trials.

    By score, then by the objective; with several objectives by the mean rank over them, in which no
    set comes before one that is better in each. Sets whose in-sample metrics all agree with those of
    a better one are the same trades under another name and are left out.
    """
    objective = list(search.objective)
    frame = folder.results(["set", "feasible", "score", *objective])
    frame = frame[frame["feasible"] & frame["score"].notna()]
    ascending = [direction == "minimize" for direction in search.direction]
    if len(objective) > 1:
        ranks = [
            frame[name].rank(ascending=up) for name, up in zip(objective, ascending, strict=True)
        ]
        keys, up = pd.concat(ranks, axis=1).mean(axis=1).to_frame("rank"), [True]
    else:
        keys, up = frame[["score", *objective]], ascending * 2
    ordered = frame["set"].loc[
        keys.sort_values(list(keys.columns), ascending=up, kind="stable").index
    ]
    # Whole rows of a few candidates alone are read, more where many of them are the same trades.
    n_read = 4 * top
    while True:
        rows = folder.sets(ordered.head(n_read).to_list())
        best = rows.drop_duplicates(["score", *METRICS]).head(top).reset_index(drop=True)
        if len(best) == top or n_read >= len(ordered):
            return best
        n_read *= 8
