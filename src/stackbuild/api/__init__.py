"""The public Python interface of stackbuild; everything else in the package is private.

A `Project` is the side of a stack's maintainer: it locks layers, publishes and builds them. The
functions are the side of a consumer: they install published layers into a root, and verify,
repair and clean roots. Results are frozen dataclasses. Errors are `StackbuildError`. What is
going on is reported to an object with the methods of `Messages`; nothing is printed.

docs/api.md has examples, and says what is promised.
"""

from stackbuild.api.packing import bundle, export_archive, write_bootstrap
from stackbuild.api.places import promote, prune, unpublish
from stackbuild.api.project import Project, build_root, verify
from stackbuild.api.roots import (
    clean,
    export,
    find_root,
    image,
    import_runenv,
    install,
    invocation,
    list_installed,
    list_published,
    pack_interpreter,
    repair,
    uninstall,
    variables,
    verify_files,
)
from stackbuild.api.upgrades import diff, history, preview_install, preview_sync, rollback, sync
from stackbuild.errors import (
    ComposeError,
    FetchError,
    InstallError,
    IntegrityError,
    LockError,
    Problem,
    SpecError,
    StackbuildError,
    UsageError,
    VerifyError,
)
from stackbuild.messages import Messages, Silent, Task
from stackbuild.platforms import Platform

# fmt: off
__all__ = [
    "ComposeError", "FetchError", "InstallError", "IntegrityError", "LockError", "Messages",
    "Platform", "Problem", "Project", "Silent", "SpecError", "StackbuildError", "Task",
    "UsageError", "VerifyError", "build_root", "bundle", "clean", "diff", "export",
    "export_archive", "find_root", "history", "image", "import_runenv", "install", "invocation",
    "list_installed", "list_published", "pack_interpreter", "preview_install", "preview_sync",
    "promote", "prune", "repair", "rollback", "sync", "uninstall", "unpublish", "variables",
    "verify", "verify_files", "write_bootstrap",
]
