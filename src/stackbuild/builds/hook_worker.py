"""Call the hook `get_requires_for_build_wheel` of a build backend (PEP 517).

Run with the interpreter of the layer in the source directory. The arguments are the request as JSON
and the path for the answer. Imports nothing of stackbuild.
"""

import importlib
import json
import sys
from pathlib import Path


def main(question: str, answer: str) -> None:
    """Write the backend's requirements as a JSON array to the file `answer`."""
    asked = json.loads(question)
    sys.path[:0] = [str(Path(path).resolve()) for path in asked["backend-path"]]
    module, _, attributes = asked["build-backend"].partition(":")
    backend = importlib.import_module(module)
    for attribute in attributes.split(".") if attributes else ():
        backend = getattr(backend, attribute)
    hook = getattr(backend, "get_requires_for_build_wheel", None)
    found = list(hook(asked["config-settings"])) if hook else []
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
