"""Python scripts that run the interpreter beside them, wherever the directory is moved to.

The kernel takes the interpreter on a script's first line as an absolute path or
relative to the working directory, so such a script is started by `/bin/sh`. To sh
the header is a program that ends with `exec`; to Python it is one string.
"""

from __future__ import annotations

import re

# Where no link has to be followed, sh needs no other program and no second process.
# The names of variables are such as nobody exports: what is exported would reach the program.
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
exec "${{__at%/*}}/{python}" "$0" "$@"
'''
"""

_BOUND = re.compile(
    rb"#!\s*/[^\n]*python[^\n/]*\n|#!/bin/sh\n'''(?:exec'|:'\n).*?'''\n",
    re.DOTALL,
)
"""How an installer binds a script to an interpreter: by its first line, or with a header for sh
(that of python-build-standalone, pip and uv, or the one above)."""


def header(python: str) -> bytes:
    """What comes before the Python code of a script that is run by `python` beside it."""
    return _HEADER.format(python=python).encode()


def unbound(script: bytes) -> bytes | None:
    """`script` as a wheel has it, with ``#!python`` for the interpreter it was bound to.

    None where it is not a script that was bound to one.
    """
    match = _BOUND.match(script)
    return b"#!python\n" + script[match.end() :] if match and b"python" in match[0] else None
