"""What Replicate's own SDK reads from a Replicate at REPLICATE_BASE_URL; printed as JSON."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import replicate
from replicate.exceptions import ModelError, ReplicateError

MODEL = "black-forest-labs/flux-schnell"
SLOW = "slow, if you please"


def fetched(link: str, length: int = 4) -> str:
    with urlopen(link) as answer:
        data: bytes = answer.read(length)
    return data.hex()


def created(client: replicate.Client, **given: Any) -> Any:
    return client.models.predictions.create(model=MODEL, input=given)


def main() -> None:
    client = replicate.Client()
    client.poll_interval = float(os.environ["POLL"])
    result: dict[str, Any] = {}
    output = client.run(
        MODEL,
        input={"prompt": "A lighthouse", "num_outputs": 2, "output_format": "png"},
        use_file_output=False,
    )
    result["delivered"] = [fetched(link) for link in output]
    link = client.run("google/nano-banana", input={"prompt": "One"}, use_file_output=False)
    result["one"] = fetched(link, 3)
    slow = created(client, prompt=SLOW)
    while not (slow.progress and slow.progress.percentage):
        slow.reload()
    progress = slow.progress.percentage
    slow.wait()
    result["slow"] = {"status": slow.status, "progress": progress}
    result["waited"] = client.models.predictions.create(
        model=MODEL, input={"prompt": SLOW}, wait=5
    ).status
    endless = created(client, prompt="endless")
    endless.cancel()
    result["cancelled"] = endless.status
    try:
        client.run(MODEL, input={"prompt": "refused"})
    except ModelError as error:
        result["refused"] = str(error)
    stranger = replicate.Client(api_token="nobody")
    calls: dict[str, Callable[[], Any]] = {
        "unknown_model": lambda: client.run("nobody/nothing", input={"prompt": "A"}),
        "bad_input": lambda: created(client, prompt="A", colour="red"),
        "throttled": lambda: created(client, prompt="throttled"),
        "bad_key": lambda: created(stranger, prompt="A"),
    }
    for name, call in calls.items():
        try:
            call()
        except ReplicateError as error:
            result[name] = error.to_dict() if name == "bad_input" else error.status
    sys.stdout.write(json.dumps(result))


main()
