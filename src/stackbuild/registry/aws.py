"""Settings for S3 that obstore does not read itself: those of AWS profiles.

Sources: "Configuration and credential file settings" and "Shared config and credentials files" in
the AWS SDKs and Tools Reference Guide.
"""

from __future__ import annotations

import configparser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from stackbuild.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from obstore.store import S3Config, S3CredentialProvider

_BY_PROGRAM = ("sso_session", "sso_start_url", "credential_process", "role_arn")
"""Settings of a profile whose credentials boto3 can get."""


def aws_settings(variables: Mapping[str, str]) -> tuple[S3Config, S3CredentialProvider | None]:
    """The settings of the profile that environment `variables` choose, and a provider or None.

    Environment variables that obstore reads come before those of the profile. Raises UsageError for
    a profile that does not exist, or whose credentials need a program.
    """
    name = variables.get("AWS_PROFILE") or "default"
    profile = _profile(name, variables)
    if not profile and "AWS_PROFILE" in variables and variables["AWS_PROFILE"]:
        raise UsageError(
            f"there is no AWS profile {name}",
            file=_file("AWS_CONFIG_FILE", "config", variables),
            remedy="correct AWS_PROFILE, or create it: aws configure --profile " + name,
        )
    config: S3Config = {}
    region = variables.get("AWS_REGION") or variables.get("AWS_DEFAULT_REGION")
    if region := region or profile.get("region"):
        config["region"] = region
    endpoint = next(
        (
            found
            for key in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
            if (found := variables.get(key))
        ),
        profile.get("endpoint_url"),
    )
    if endpoint:
        config["endpoint"] = endpoint
    if variables.get("AWS_ACCESS_KEY_ID"):
        return config, None
    if "aws_access_key_id" in profile:
        config["access_key_id"] = profile["aws_access_key_id"]
        config["secret_access_key"] = profile.get("aws_secret_access_key", "")
        if token := profile.get("aws_session_token"):
            config["session_token"] = token
        return config, None
    if not any(key in profile for key in _BY_PROGRAM):
        return config, None
    if find_spec("boto3") is None:
        raise UsageError(
            f"the credentials of the AWS profile {name} need the library boto3",
            file=_file("AWS_CONFIG_FILE", "config", variables),
            remedy="pip install boto3; or set the variables that "
            f"`aws configure export-credentials --profile {name} --format env` prints",
        )
    from obstore.auth.boto3 import Boto3CredentialProvider

    return config, Boto3CredentialProvider()


def _profile(name: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The settings of a profile in both files; those of credentials come first."""
    found: dict[str, str] = {}
    section = name if name == "default" else f"profile {name}"
    for variable, file, title in (
        ("AWS_CONFIG_FILE", "config", section),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    ):
        path = _file(variable, file, variables)
        parser = configparser.RawConfigParser(default_section="")
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError) as error:
            raise UsageError(
                "the AWS settings cannot be read", file=path, found=type(error).__name__
            ) from error
        if parser.has_section(title):
            found |= parser[title]
    return found


def _file(variable: str, name: str, variables: Mapping[str, str]) -> Path:
    return Path(variables.get(variable) or Path("~/.aws", name)).expanduser()
