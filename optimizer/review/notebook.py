"""A study as HTML in a notebook."""

from __future__ import annotations

from typing import Any

from optimizer.review.html import render
from optimizer.review.records import judged
from optimizer.review.tables import LEGEND, set_table
from optimizer.selection.verdict import LUCK, PROMISING, SKILL
from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets, no_best
from optimizer.store.seal import seal_note, with_open_holdout
from optimizer.study_file.study import recorded_study
from optimizer.text import counted

COLORS = {SKILL: "#1a7f37", PROMISING: "#9a6700", LUCK: "#cf222e"}


def study_html(folder: StudyFolder, top: int = 10) -> str:
    """The best sets of a study and the verdict.

    Args:
        folder: the folder of the study.
        top: how many of the best sets.

    Returns:
        A piece of HTML; texts of the study are escaped.

    Raises:
        StudyError: the study cannot be read.
    """
    study = recorded_study(folder.manifest()["study"])
    values: dict[str, Any] = {
        "name": study.name,
        "n_sets": counted(folder.n_sets(), "parameter set"),
        "close_fill": study.costs.fill == "close",
        "no_sets": "none evaluated yet",
        "titles": (),
        "rows": (),
        "legend": "",
        "sealed": "",
        "verdict": None,
    }
    if folder.batch_paths():
        frame = with_open_holdout(folder, best_sets(folder, study.search, top))
        values["no_sets"] = no_best(folder, study.search) if frame.empty else ""
        if not frame.empty:
            selection, verdict, _ = judged(folder)
            table = set_table(frame, study, selection, verdict)
            values |= {"titles": table.titles, "rows": table.rows}
            values["legend"] = LEGEND if table.has_odds else ""
            values["sealed"] = seal_note(folder)
            if verdict is not None:
                values["verdict"] = {
                    "number": table.rows[0][0],
                    "words": verdict.headline,
                    "color": COLORS[verdict.words],
                    "reasons": [reason.text for reason in verdict.reasons],
                }
    return render("optimizer.review", "study.html", **values)
