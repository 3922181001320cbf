"""A study's tables with some of their keys changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optimizer.errors import StudyFileError
from optimizer.study_file.objectives import direction_of
from optimizer.text import quoted

_LISTS = ("strategy", "classifier")
"""Tables of which a study may have several."""


def merged_tables(tables: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a study with the keys that some changes name.

    A key that is None goes back to its default. A key at a default that another key gives, as the
    direction of an objective, follows that key. A list replaces all strategies or classifiers; a table
    changes the only one, or replaces it where it has another name.

    Args:
        tables: the study as ``Study.to_dict`` gives it.
        changes: tables by name.

    Raises:
        StudyFileError: a change is no table, or leaves open which of several tables it means.
    """
    merged = dict(tables)
    for name, change in changes.items():
        if name in _LISTS and isinstance(change, (list, tuple)):
            merged[name] = list(change)
            continue
        if not isinstance(change, Mapping):
            raise StudyFileError(f"<study>: [{name}]: got {quoted(change)}; expected a table")
        if name in _LISTS:
            merged[name] = [_changed_component(name, tables[name], change)]
        else:
            old = dict(tables.get(name, {}))
            for key, leader, default in _FOLLOWING.get(name, ()):
                if leader in change and old.get(key) == default(old):
                    old.pop(key, None)
            merged[name] = _changed(old, change)
    return merged


def _direction(search: Mapping[str, Any]) -> object:
    objective = search["objective"]
    if isinstance(objective, str):
        return direction_of(objective)
    return [direction_of(one) for one in objective]


_FOLLOWING: Mapping[str, Sequence[tuple[str, str, Callable[[Mapping[str, Any]], object]]]] = {
    "costs": [("maker_bps", "commission_bps", lambda table: table["commission_bps"])],
    "search": [("direction", "objective", _direction)],
}
"""Keys whose default is another key's, by table: the key, the other key, the default."""


def _changed_component(
    name: str, tables: list[Mapping[str, Any]], change: Mapping[str, Any]
) -> dict[str, Any]:
    if "name" in change and change["name"] not in [one["name"] for one in tables]:
        return dict(change)
    if len(tables) > 1:
        raise StudyFileError(
            f"<study>: [{name}]: the study has {len(tables)}; give a list of all of them"
        )
    old = dict(tables[0])
    if "path" in change:  # what another file declares is not known yet
        old = {key: value for key, value in old.items() if key not in ("declared", "source_hash")}
    return _changed(old, change)


def _changed(table: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in {**table, **change}.items() if value is not None}
