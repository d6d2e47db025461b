"""A minimal GraphQL client with the standard library only. The documents are in `documents/`."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

URL = os.environ.get("GRAPHQL_URL", "http://127.0.0.1:8000/graphql")
TIMEOUT_SECONDS = 30


def read_document(name: str) -> str:
    return (Path(__file__).parent / "documents" / f"{name}.graphql").read_text()


def execute(name: str, **variables: Any) -> Any:
    """Run an operation and return its data. Exit with a message if it fails."""
    with _send(name, variables, accept="application/json") as response:
        return _data_of(json.load(response))


def follow(name: str, **variables: Any) -> Iterator[Any]:
    """Subscribe over HTTP, and give the data of each result until the subscription ends."""
    with _send(name, variables, accept="text/event-stream") as response:
        for line in response:
            if line.startswith(b"data:") and (text := line.removeprefix(b"data:").strip()):
                yield _data_of(json.loads(text))


def _send(name: str, variables: Mapping[str, Any], *, accept: str) -> Any:
    """The open response. Exit with a message if there is none."""
    body = json.dumps({"query": read_document(name), "variables": variables}).encode()
    headers = {
        "Accept": accept,
        "Content-Type": "application/json",
        "Authorization": f"Bearer {os.environ.get('TOKEN', '')}",
    }
    try:
        return urlopen(Request(URL, body, headers), timeout=TIMEOUT_SECONDS)
    except HTTPError as error:
        return error
    except URLError as error:
        sys.exit(f"{URL} does not answer ({error.reason}). Start it with `make run`.")


def _data_of(result: Any) -> Any:
    if result.get("errors"):
        sys.exit(result["errors"][0]["message"])
    return result["data"]


def mutate(name: str, **values: Any) -> Any:
    """Run a mutation with this input and return its payload. Exit if the input is refused."""
    (payload,) = execute(name, input=values).values()
    if payload["userErrors"]:
        sys.exit("\n".join(error["message"] for error in payload["userErrors"]))
    return payload


def describe(output: Any) -> str:
    """What an output has come to: the URL of its image, its error, or its status."""
    if output["error"]:
        return f"{output['model']['label']}: {output['error']['message']}"
    if output["image"]:
        return f"{output['model']['label']}: {output['image']['url']}"
    return f"{output['model']['label']}: {output['status']}"
