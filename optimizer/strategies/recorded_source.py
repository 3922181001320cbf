"""The source of a user's file as a study recorded it: the file itself, or the copy that was kept."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

from optimizer.errors import StrategyError
from optimizer.strategies.approvals import approve, is_approved, require_approval
from optimizer.strategies.user_file import StrategyFile
from optimizer.strategies.user_kernels import kept_source
from optimizer.strategies.user_source import StrategySource, read_source
from optimizer.text import path_text


class FileDeclaration(Protocol):
    """What every declaration of a user's file says of the file."""

    @property
    def path(self) -> str:
        """The path of the file, absolute."""

    @property
    def source_hash(self) -> str:
        """The hash of its source when the study ran."""


class FromUsersFile:
    """Something that a user's file declares: where its source is, and whether that may run."""

    declaration: FileDeclaration

    @property
    def path(self) -> str:
        """Its file, absolute."""
        return self.declaration.path

    def source(self) -> StrategySource:
        """The file and the modules next to it, or their kept copy; see ``recorded_source``.

        Raises:
            StrategyError: the file is missing or has changed, and there is no copy.
        """
        return recorded_source(Path(self.path), self.declaration.source_hash)

    def run_file(self, given: StrategySource) -> StrategyFile:
        """Run its file, also where that is not on this machine.

        Args:
            given: the file, and the modules next to it.

        Returns:
            The file, run.

        Raises:
            UntrustedCodeError: the source is not approved.
            StrategyError: the source differs from that of the study, or fails when it is run.
        """
        path, recorded = Path(self.path), self.declaration.source_hash
        if given.hash != recorded:
            raise StrategyError(
                f"{path_text(path)}: not the file that the study used ({recorded[:12]})"
            )
        return StrategyFile(path, given)

    def require_approval(self) -> None:
        """Refuse it if its file may not run.

        Raises:
            UntrustedCodeError: the user has neither named nor approved it.
        """
        require_approval(Path(self.path), self.declaration.source_hash)

    def approve(self) -> None:
        """Approve its file for good, because the user asks for it.

        Raises:
            StrategyError: the file is missing or has changed, so the user cannot have read it.
        """
        self.source()
        approve(self.path, self.declaration.source_hash)


OTHER_DECLARATION = "declares something other than what is recorded; run the study again"
"""Said of a file that has the recorded source and declares something else."""


def named_source(file: Path) -> StrategySource:
    """The source of a file that the user names, who approves it by that.

    Args:
        file: the path of the file, absolute.

    Raises:
        StrategyError: the file cannot be read.
    """
    source = read_source(file)
    approve(file, source.hash)
    return source


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
