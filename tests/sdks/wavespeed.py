"""What Wavespeed's own SDK reads from a Wavespeed at URL; printed as JSON."""

import json
import os
import sys
from contextlib import redirect_stdout
from typing import Any
from urllib.request import urlopen

from wavespeed.api.client import Client

MODEL = "google/imagen3"


def fetched(link: str) -> str:
    with urlopen(link) as answer:
        data: bytes = answer.read(4)
    return data.hex()


def made(client: Client, prompt: str, *, model: str = MODEL, **given: Any) -> list[str]:
    output = client.run(model, {"prompt": prompt, **given}, poll_interval=0.05)
    return [fetched(link) for link in output["outputs"]]


def complaint(client: Client, prompt: str, **given: Any) -> str:
    try:
        made(client, prompt, **given)
    except RuntimeError as error:
        return str(error)
    return ""


def ask() -> dict[str, Any]:
    url = os.environ["URL"]
    client = Client(base_url=url, retry_interval=0.01)
    request_id, _ = client._submit(MODEL, {"prompt": "By its id"})
    return {
        "delivered": made(client, "A lighthouse", num_images=2),
        "slow": made(client, "slow"),
        "refused": complaint(client, "refused"),
        "endless": complaint(client, "endless"),
        "stumbling": complaint(client, "stumbling"),
        "bad_input": complaint(client, "A", aspect_ratio="21:9"),
        "unknown_model": complaint(client, "A", model="nobody/nothing"),
        "bad_key": complaint(Client(api_key="nobody", base_url=url), "A"),
        "looked_up": client.get_result(request_id),
    }


# The SDK prints its retries to the stream of the result.
with redirect_stdout(sys.stderr):
    result = ask()
sys.stdout.write(json.dumps(result))
