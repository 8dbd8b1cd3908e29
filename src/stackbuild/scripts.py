"""Headers for relocatable Python scripts, which run the interpreter beside them.

The interpreter in the first line of a script must be absolute or relative to the working directory,
so such a script is started by `/bin/sh`. For sh the header is a program that ends with `exec`; for
Python it is a string.
"""

from __future__ import annotations

import re

from stackbuild.layout import ENVIRONMENT_SCRIPT

# Without links to follow, sh starts no other program. The variable names are unlikely to be
# exported; exported ones would be visible to the program.
_HEADER = """\
#!/bin/sh
''':'
__at=$0
case $0 in /*) ;; *) __at=./$0 ;; esac
if [ -h "$__at" ] || [ "$__at" != "$0" ]; then
    while [ -h "$__at" ]; do
        __to=$(readlink -- "$__at")
        case $__to in /*) __at=$__to ;; *) __at=${{__at%/*}}/$__to ;; esac
    done
    __at=$(cd -P -- "${{__at%/*}}/" && pwd -P)/
fi
{before}exec "${{__at%/*}}/{python}" "$0" "$@"
'''
"""

_VARIABLES = f"""\
__set=${{__at%/*}}/../{ENVIRONMENT_SCRIPT}
if [ -f "$__set" ]; then . "$__set"; fi
"""

_BOUND = re.compile(
    rb"#!\s*/[^\n]*python[^\n/]*\n|#!/bin/sh\n'''(?:exec'|:'\n).*?'''\n",
    re.DOTALL,
)
"""Matches a script with the path of an interpreter: in its first line, or in a header for sh (of
python-build-standalone, pip and uv, or the one above)."""


def header(python: str, *, variables: bool = False) -> bytes:
    """The header of a script that is run by the `python` beside it.

    With `variables` it first sets those of its layer, if the layer has any.
    """
    return _HEADER.format(python=python, before=_VARIABLES if variables else "").encode()


def unbound(script: bytes) -> bytes | None:
    """`script` as in a wheel, with ``#!python`` instead of the path of the interpreter.

    None if it is not a script with the path of an interpreter.
    """
    match = _BOUND.match(script)
    return b"#!python\n" + script[match.end() :] if match and b"python" in match[0] else None
