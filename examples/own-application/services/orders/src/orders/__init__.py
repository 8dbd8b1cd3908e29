"""The service that takes orders."""

import sys

import uvicorn
from fastapi import FastAPI, HTTPException
from shop import PRICES

app = FastAPI()


@app.get("/total/{fruit}/{count}")
def total(fruit: str, count: int) -> dict[str, int]:
    """What `count` pieces of `fruit` cost."""
    if fruit not in PRICES:
        raise HTTPException(404, f"there is no {fruit}")
    return {"cents": PRICES[fruit] * count}


def main() -> None:
    """Serve on the port that the command line names."""
    uvicorn.run(app, port=int(sys.argv[1]))
