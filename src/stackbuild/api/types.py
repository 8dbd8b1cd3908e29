"""The types of results and of what they hold, for annotations and `isinstance`.

They are not imported by `stackbuild.api`, so that a program which only calls functions starts fast.
"""

from stackbuild.api.values import BuildReport, LayerDescription, LockState, PackedInterpreter
from stackbuild.compose.manifest import (
    Archive,
    ArchiveFormat,
    ChainLink,
    IndexEntry,
    Manifest,
    Patch,
    PatchFile,
    PlacedFrame,
    PublishedFile,
    Shipped,
)
from stackbuild.compose.report import LayerFailure, PublishedLayer, PublishReport
from stackbuild.compose.sizes import FileGroup, LayerSizes
from stackbuild.frames.model import Frame, FrameKind
from stackbuild.images.image import ImageLayer, ImageReport
from stackbuild.importers.runenv.convert import ImportReport
from stackbuild.importers.runenv.model import Note, NoteKind
from stackbuild.install.report import (
    AvailableLayer,
    CleanReport,
    Difference,
    DifferenceKind,
    DistributionChange,
    ExportReport,
    FilesReport,
    Freed,
    Generation,
    InstalledLayer,
    InstallReport,
    Invocation,
    LayerChange,
    LayerVariables,
    LayerVersion,
    PackedFormat,
    PackReport,
    RepairReport,
    Upgrade,
)
from stackbuild.layout import Layout
from stackbuild.lock.model import (
    Build,
    BuildRequirement,
    Conflict,
    Inherited,
    LayerLock,
    LeftOut,
    LockedDistribution,
    LockedFile,
    ProjectSource,
    StaleLock,
    VcsSource,
    WheelAddition,
)
from stackbuild.planning.model import Comparison, SuggestedFramework, Suggestion
from stackbuild.platforms import OsName
from stackbuild.registry.prune import PruneReport, RemovedVersion
from stackbuild.registry.push import SentLayer
from stackbuild.resolve.lock_stack import Change, ChangeState, LockReport, VenvstacksUse
from stackbuild.spec.model import CopyFiles, LayerKind, Setting, Settings
from stackbuild.variables import Variable
from stackbuild.verify.model import Check, Counts, Finding, KnownError, StaleEntry, VerifyReport

# fmt: off
__all__ = [
    "Archive",
    "ArchiveFormat",
    "AvailableLayer",
    "Build",
    "BuildReport",
    "BuildRequirement",
    "ChainLink",
    "Change",
    "ChangeState",
    "Check",
    "CleanReport",
    "Comparison",
    "Conflict",
    "CopyFiles",
    "Counts",
    "Difference",
    "DifferenceKind",
    "DistributionChange",
    "ExportReport",
    "FileGroup",
    "FilesReport",
    "Finding",
    "Frame",
    "FrameKind",
    "Freed",
    "Generation",
    "ImageLayer",
    "ImageReport",
    "ImportReport",
    "IndexEntry",
    "Inherited",
    "InstallReport",
    "InstalledLayer",
    "Invocation",
    "KnownError",
    "LayerChange",
    "LayerDescription",
    "LayerFailure",
    "LayerKind",
    "LayerLock",
    "LayerSizes",
    "LayerVariables",
    "LayerVersion",
    "Layout",
    "LeftOut",
    "LockReport",
    "LockState",
    "LockedDistribution",
    "LockedFile",
    "Manifest",
    "Note",
    "NoteKind",
    "OsName",
    "PackReport",
    "PackedFormat",
    "PackedInterpreter",
    "Patch",
    "PatchFile",
    "PlacedFrame",
    "ProjectSource",
    "PruneReport",
    "PublishReport",
    "PublishedFile",
    "PublishedLayer",
    "RemovedVersion",
    "RepairReport",
    "SentLayer",
    "Setting",
    "Settings",
    "Shipped",
    "StaleEntry",
    "StaleLock",
    "SuggestedFramework",
    "Suggestion",
    "Upgrade",
    "Variable",
    "VcsSource",
    "VenvstacksUse",
    "VerifyReport",
    "WheelAddition",
]
