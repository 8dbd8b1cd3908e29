"""The service that tells what there is."""

import sys

import uvicorn
from fastapi import FastAPI
from shop import PRICES

app = FastAPI()


@app.get("/fruits")
def fruits() -> list[str]:
    """The names of all fruits."""
    return sorted(PRICES)


def main() -> None:
    """Serve on the port that the command line names."""
    uvicorn.run(app, port=int(sys.argv[1]))
