"""A study as HTML in a notebook."""

from __future__ import annotations

import html

import pandas as pd

from optimizer.review.records import judged
from optimizer.review.tables import set_rows
from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets, no_best
from optimizer.study_file.study import study_from_dict
from optimizer.text import counted

COLORS = {"holds up": "#1a7f37", "fragile": "#9a6700", "likely luck": "#cf222e"}


def study_html(folder: StudyFolder, top: int = 10) -> str:
    """The best sets of a study and the verdict as a piece of HTML.

    Raises:
        StudyError: the study cannot be read.
    """
    study = study_from_dict(folder.manifest()["study"])
    title = f"<b>{html.escape(study.name)}</b>: {counted(folder.n_sets(), 'parameter set')}"
    if study.costs.fill == "close":
        title += '; <code>fill = "close"</code>, which is optimistic'
    frame = best_sets(folder, study.search, top) if folder.batch_paths() else pd.DataFrame()
    if frame.empty:
        why = no_best(folder, study.search) if folder.batch_paths() else "none evaluated yet"
        return f"<p>{title}; {html.escape(why)}</p>"
    selection, verdict, _ = judged(folder)
    titles, rows = set_rows(frame, study, selection)
    head = "".join(f"<th>{html.escape(one).replace(chr(10), '<br>')}</th>" for one in titles)
    body = "".join(
        f"<tr>{''.join(f'<td>{html.escape(one)}</td>' for one in row)}</tr>" for row in rows
    )
    words = ""
    if verdict is not None:
        reasons = "".join(f"<li>{html.escape(one.text)}</li>" for one in verdict.reasons)
        words = (
            f'<p>set {rows[0][0]}: <b style="color:{COLORS[verdict.words]}">{verdict.words}</b></p>'
            f"<ul>{reasons}</ul>"
        )
    return (
        f"<p>{title}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{words}"
    )
