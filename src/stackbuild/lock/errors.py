"""Several failures of one command, told together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.errors import StackbuildError


class ManyLocksError(LockError):
    """What went wrong for several layers or platforms; its `errors`.

    Its exit code is theirs, where they have the same.
    """

    def __init__(self, errors: Sequence[StackbuildError]) -> None:
        self.errors = tuple(errors)
        if len(codes := {error.exit_code for error in errors}) == 1:
            (self.exit_code,) = codes
        super().__init__(f"{len(errors)} problems with the locks")

    def __str__(self) -> str:
        """The count, then each of them, numbered."""
        parts = [
            f"{number}. " + str(error).replace("\n", "\n   ")
            for number, error in enumerate(self.errors, start=1)
        ]
        return "\n".join([self.message, *parts])


def raise_all(errors: Sequence[StackbuildError]) -> None:
    """Raise the only error as it is, several of them as one, and none not at all."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ManyLocksError(errors)
