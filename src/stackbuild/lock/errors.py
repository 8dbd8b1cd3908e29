"""Several failures of one command in one error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stackbuild.errors import LockError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackbuild.errors import StackbuildError


class ManyLocksError(LockError):
    """The `errors` of several layers or platforms.

    Its exit code is that of the errors, if it is the same for all.
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
    """Raise a single error as it is, and several as one; nothing for none."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ManyLocksError(errors)
