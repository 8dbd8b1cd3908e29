"""The policy fields of `[tool.stackbuild.shared]` and `[tool.stackbuild.layers.<name>]`.

Each is declared only here. The reader of the spec, merging, `Policy`, the digest of
locks, `show --effective`, `docs/venvstacks.schema.json` and the table in `docs/file-formats.md`
are derived from it (`tools/policy_reference.py`). Each field of a policy has an attribute of the
same name in `spec.model.Policy`.
"""

from __future__ import annotations

from stackbuild.spec.model import BuildSettings, BuildWheel, SourcePolicy
from stackbuild.spec.settings import (
    BUILD_VARIABLES,
    COPY_FILES,
    EXCLUDED_FILES,
    FLAG,
    FOR_BACKEND,
    INDEX_NAMES,
    NAMES,
    REQUIREMENT_TEXTS,
    REQUIREMENTS,
    SECONDS,
    SPECIFIER,
    TEXT,
    VARIABLES,
    Field,
    Group,
    by_any,
    by_distribution,
    by_platform,
)

_BUILD_WHEEL = Group(
    BuildWheel,
    (
        Field(key="reason", kind=TEXT, meaning="why it is built; required", required=True),
        Field(
            key="build-requires",
            kind=REQUIREMENT_TEXTS,
            meaning="requirements of the build, instead of those that the source names",
        ),
        Field(
            key="config-settings",
            kind=by_any("<key>", FOR_BACKEND),
            meaning="for the build backend (PEP 517), a string or an array of strings; "
            "`{packageRoot}` is `overlays/<layer>/`",
        ),
    ),
)

_RESOLUTION = Group(
    SourcePolicy,
    (
        Field(
            key="allow-source-all",
            kind=FLAG,
            meaning="`true`: what has no wheel for the platform may be built from source",
        ),
        Field(
            key="strict-missing",
            kind=FLAG,
            meaning="`false`: what `optional-list` names is left out and reported where it is not "
            "available",
        ),
        Field(
            key="optional-list",
            kind=NAMES,
            meaning="requirements of the layer that `strict-missing = false` concerns; not what "
            "must be built from source",
        ),
        Field(
            key="allow-source-list",
            kind=NAMES,
            meaning="distributions that may be built where they have no wheel for the platform, "
            "and so may what they depend on",
        ),
        Field(
            key="force-no-binary-list",
            kind=NAMES,
            meaning="distributions that are always built from source, whatever `only-binary-list`"
            " says",
        ),
        Field(
            key="only-binary-list",
            kind=NAMES,
            meaning="distributions that are not built where they have no wheel for the platform",
        ),
    ),
)

_BUILD = Group(
    BuildSettings,
    (
        Field(key="logging", kind=FLAG, meaning="`true`: the output of builds is shown"),
        Field(key="parallel-downloads", kind=FLAG, meaning="`false`: one connection at a time"),
        Field(key="timeout", kind=SECONDS, meaning="of one build, in seconds"),
        Field(
            key="environment",
            kind=BUILD_VARIABLES,
            changes="policy",
            meaning="the value of an environment variable in builds of the layer from source",
        ),
    ),
)

_REGISTRIES = Group(
    dict,
    (
        Field(
            key="additional",
            kind=INDEX_NAMES,
            meaning="names or addresses of a `[[tool.uv.index]]` that serve the distributions "
            "given to them in `package_indexes`; each distribution comes from exactly one index",
        ),
    ),
)

POLICY_FIELDS: tuple[Field, ...] = (
    Field(
        key="skip",
        kind=by_distribution(by_platform(TEXT)),
        changes="policy",
        meaning="the requirement of the layer does not apply on that platform; other distributions "
        "may still need this one. The value is the reason, which lock and manifest record",
    ),
    Field(
        key="exclude",
        kind=by_distribution(by_platform(TEXT)),
        changes="policy",
        meaning="as `skip`, but the distribution is left out also where another one needs it",
    ),
    Field(
        key="force-source",
        kind=by_distribution(by_platform(TEXT)),
        changes="policy",
        meaning="the distribution is built from source on that platform; the value is the reason",
    ),
    Field(
        key="build-wheel",
        kind=by_distribution(by_platform(_BUILD_WHEEL)),
        changes="policy",
        meaning="the distribution is built from source on that platform, as these keys say",
    ),
    Field(
        key="no-deps",
        kind=NAMES,
        changes="policy",
        meaning="distributions whose own requirements are not followed",
    ),
    Field(
        key="overrides",
        kind=by_distribution(SPECIFIER),
        changes="policy",
        meaning="the version of a distribution, regardless of other requirements",
    ),
    Field(
        key="dependencies",
        kind=REQUIREMENTS,
        changes="requirements",
        general=False,
        specific=True,
        meaning="requirements beside those of the layer",
    ),
    Field(key="resolution", kind=_RESOLUTION, changes="policy", specific=True),
    Field(key="registries", kind=_REGISTRIES, changes="indexes"),
    Field(key="build", kind=_BUILD, specific=True),
    Field(
        key="allow-import-errors",
        kind=by_any("<wheel>", by_any("<module>", TEXT)),
        specific=True,
        meaning="a failure that `stackbuild verify` expects; the value is a part of its message",
    ),
    Field(
        key="environment",
        kind=VARIABLES,
        changes="own",
        specific=True,
        meaning="the value of an environment variable in the layer and the layers above it, as "
        "described below",
    ),
    Field(
        key="exclude-files",
        kind=EXCLUDED_FILES,
        changes="own",
        specific=True,
        meaning="patterns of files of the distribution that the layer does not contain; an array "
        "instead of the table is for all distributions of the layer, as the name `*` is",
    ),
    Field(
        key="packages",
        kind=FLAG,
        changes="own",
        meaning="`true`: the layer has the wheels of its chain as files in `packages/`, for "
        "`pip install --find-links`",
    ),
    Field(
        key="copy-files",
        kind=COPY_FILES,
        changes="own",
        specific=True,
        meaning="files of the project that are copied into the layer, as described above",
    ),
)
"""In the order in which they are read and `show --effective` prints them."""

BY_KEY = {field.key: field for field in POLICY_FIELDS}
