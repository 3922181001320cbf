"""The source of a user's file as a study recorded it: the file itself, or the copy that was kept."""

from __future__ import annotations

import contextlib
from pathlib import Path

from optimizer.errors import StrategyError
from optimizer.strategies.approvals import is_approved
from optimizer.strategies.user_kernels import kept_source
from optimizer.strategies.user_source import StrategySource, read_source
from optimizer.text import path_text


def recorded_source(path: Path, recorded: str) -> StrategySource:
    """A user's file and the modules next to it, or their kept copy if they have changed.

    The copy of a file that is not approved is left alone: nobody has read it there.

    Args:
        path: the path of the file.
        recorded: the hash of its source when the study ran.

    Raises:
        StrategyError: the file is missing or has changed, and there is no copy.
    """
    found: StrategySource | None = None
    with contextlib.suppress(StrategyError):
        found = read_source(path)
    if found is None or found.hash != recorded:
        found = kept_source(recorded) if is_approved(recorded) else None
    if found is None:
        changed = path.exists()
        module = ", or a module next to it that it imports has" if changed else ""
        raise StrategyError(
            f"{path_text(path)}: {'has changed' if changed else 'is missing'} since the study ran"
            f" (recorded hash {recorded[:12]}){module}; put the original file back"
        )
    return found
