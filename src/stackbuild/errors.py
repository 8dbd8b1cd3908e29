"""Errors for users, and the exit code of each kind.

Every expected error is a `StackbuildError`: a sentence, the place, what was expected, what was
found, and a remedy. The command line prints it without a traceback and exits with its `exit_code`.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from stackbuild.messages import one_line
from stackbuild.windows import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def _indented(text: str) -> str:
    """`text` with all lines after the first indented.

    A line break in a name or a server's answer can then not imitate a line of the error.
    """
    return text.replace("\n", "\n    ")


def quoted(word: object) -> str:
    """`word` quoted for a shell, for commands in messages."""
    import shlex

    text = str(word)
    if os.name != "nt":
        return shlex.quote(text)
    return f'"{text}"' if any(character in text for character in " &()^;,") else text


class StackbuildError(Exception):
    """An expected failure.

    `message` is a sentence without a final full stop. The keyword arguments
    are shown below it, in this order; unknown ones are omitted.
    """

    exit_code = 1
    """The exit code of the command line."""
    message: str
    details: tuple[tuple[str, str], ...]
    """The lines below the message: a label such as ``layer`` or ``to fix``, and its text."""

    def __init__(
        self,
        message: str,
        *,
        layer: str | None = None,
        platform: str | None = None,
        distribution: str | None = None,
        file: object | None = None,
        expected: str | None = None,
        found: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details = tuple(
            (label, str(value))
            for label, value in (
                ("layer", layer),
                ("platform", platform),
                ("distribution", distribution),
                ("file", file),
                ("expected", expected),
                ("found", found),
                ("to fix", remedy),
            )
            if value is not None
        )

    def with_remedy(self, remedy: str) -> Self:
        """This error with `remedy`, unless it has one."""
        if all(label != "to fix" for label, _ in self.details):
            self.details += (("to fix", remedy),)
        return self

    def in_layer(self, layer: str, platform: str) -> Self:
        """This error with `layer` and `platform`, unless it has a layer."""
        known = dict(self.details)
        if "layer" in known:
            return self
        # A copy, as several layers may have the same error; subclasses have other parameters.
        error = type(self).__new__(type(self), *self.args)
        error.__dict__.update(self.__dict__)
        platforms = () if "platform" in known else (("platform", platform),)
        error.details = (("layer", layer), *platforms, *self.details)
        return error

    def without_remedy(self) -> str:
        """The text without the remedy, for errors with another remedy."""
        details = tuple(item for item in self.details if item[0] != "to fix")
        return _text(self.message, details)

    def __str__(self) -> str:
        """The message and its details, a line each."""
        return _text(self.message, self.details)


def _text(message: str, details: tuple[tuple[str, str], ...]) -> str:
    lines = (message, *(f"  {label}: {text}" for label, text in details))
    return "\n".join(map(_indented, lines))


class UsageError(StackbuildError):
    """The command has invalid arguments."""

    exit_code = 2


def refuse_text(**sequences: object) -> None:
    """Raise UsageError for a string among `sequences`, whose items would be its letters."""
    for name, value in sequences.items():
        if isinstance(value, str):
            raise UsageError(
                f"`{name}` is a string, not a sequence",
                found=repr(value),
                remedy=f"pass [{value!r}]",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A problem in a `venvstacks.toml` or `stackbuild.install.toml`.

    `place` is the path of the value, such as ``frameworks[0].requirements[2]``.
    """

    place: str
    message: str
    expected: str | None = None
    found: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        """`place: message (expected …, found …; hint)`."""
        notes = [f"expected {self.expected}"] if self.expected else []
        notes += [f"found {self.found}"] if self.found else []
        text = f"{self.place}: {self.message}" if self.place else self.message
        if notes:
            text += f" ({', '.join(notes)})"
        return f"{text}; {self.hint}" if self.hint else text


class SpecError(StackbuildError):
    """An invalid `venvstacks.toml` or `stackbuild.install.toml`, with all its problems."""

    exit_code = 3
    problems: tuple[Problem, ...]

    def __init__(self, file: object, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = f"{len(problems)} problems" if len(problems) != 1 else "1 problem"
        super().__init__(f"{file} has {count}")

    def __str__(self) -> str:
        """The count, then a line for each problem."""
        lines = (_indented(self.message), *(f"  {one_line(str(one))}" for one in self.problems))
        return "\n".join(lines)


class LockError(StackbuildError):
    """A layer cannot be resolved, or its lock is missing, stale or damaged."""

    exit_code = 4


class FetchError(StackbuildError):
    """A file is not available: network, mirror or index."""

    exit_code = 5


class IntegrityError(StackbuildError):
    """Bytes do not match a lock, a manifest or a format."""

    exit_code = 6


class ComposeError(StackbuildError):
    """A layer cannot be composed."""

    exit_code = 7


class InstallError(StackbuildError):
    """A layer cannot be installed or run in a root."""

    exit_code = 8


class VerifyError(StackbuildError):
    """A check of installed or published files found differences."""

    exit_code = 9


DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
"""Values of `OSError.errno` for a full disk and for missing permission."""

IN_THE_WAY = frozenset({errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENOTDIR})
"""Values of `OSError.errno` for a path occupied by another kind of file."""


@contextmanager
def system_errors(
    kind: type[StackbuildError],
    directory: Path,
    *,
    elsewhere: str,
    cache: Path | None = None,
    also: str = "",
) -> Iterator[None]:
    """Raise system errors in the `with` block as an error of `kind` with a remedy.

    `directory` and `cache` are the places that are written to, for errors that name no file.
    `elsewhere` says how to choose another directory (empty if that is not possible); `also` is
    added to it. Broken connections are not translated.
    """
    try:
        yield
    except ConnectionError:
        raise
    except OSError as error:
        if error.errno in IN_THE_WAY:
            raise in_the_way(kind, obstacle(error, directory), elsewhere) from error
        # A failed copy or rename has two names; the second one is what was to be written.
        file = error.filename2 or error.filename
        place = shown(
            str(file or (f"{directory}, or in the cache {cache}" if cache else directory))
        )
        if error.errno in DISK_FULL:
            message = "the disk is full"
            remedy = "make room on the file system of this file and run the same command again"
        elif error.errno in FORBIDDEN:
            message = f"no permission to write {place}"
            remedy = _either("use an account that may write there", elsewhere)
        else:
            message = f"cannot create files in {directory}"
            remedy = _either("check the file system of this file", elsewhere)
        found = error.strerror or str(error)
        raise kind(message, file=place, found=found, remedy=remedy + also) from error


def in_the_way(kind: type[StackbuildError], path: Path, elsewhere: str) -> StackbuildError:
    """The error for `path`, which is occupied by another kind of file."""
    return kind(
        f"something that stackbuild did not make is in the way: {path}",
        remedy=_either("move it away", elsewhere),
    )


def _either(first: str, second: str) -> str:
    return f"{first}, or {second}" if second else first


def obstacle(error: OSError, default: Path) -> Path:
    """The path that caused an error in `IN_THE_WAY`: its own or that of a parent."""
    # A failed rename has two names; the second one is the target.
    path = Path(shown(os.fspath(error.filename2 or error.filename or default)))
    above = (parent for parent in reversed(path.parents) if not parent.is_dir())
    return next(above, path)


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
