"""The images that providers' own clients find in canned answers.

    answers.py <provider> <base URL> <key> <model> <one 0 or 1 for each exchange: streamed or not>

Prints a list with one entry for each exchange, in JSON: the digests of all that the client takes
for an image, and the numbers of the files that it links to; empty where it finds none or fails.
"""

import hashlib
import json
import logging
import re
import sys
import warnings
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any, Final

_LINK: Final = re.compile(r"/(\d+)\.png$")
_POLLS: Final = 3

Finder = Callable[[int, bool], Iterator[bytes | str]]
"""What is found in an exchange: bytes, or links."""


def openai(url: str, key: str, model: str) -> Finder:
    import openai

    return _images_of(openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0), model)


def azure(url: str, key: str, model: str) -> Finder:
    import openai

    client = openai.AzureOpenAI(
        api_key=key, azure_endpoint=url, api_version="2025-04-01-preview", max_retries=0
    )
    return _images_of(client, model)


def _images_of(client: Any, model: str) -> Finder:
    def find(number: int, streamed: bool) -> Iterator[bytes | str]:
        asked = {"model": model, "prompt": f"exchange {number}"}
        if not streamed:
            for image in client.images.generate(**asked, n=4).data:
                if image.b64_json:
                    yield b64decode(image.b64_json)
            return
        for event in client.images.generate(**asked, stream=True, partial_images=2):
            if event.type.endswith(".completed"):
                yield b64decode(event.b64_json)

    return find


def gemini(url: str, key: str, model: str) -> Finder:
    from google import genai
    from google.genai import types

    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url))

    def find(number: int, streamed: bool) -> Iterator[bytes | str]:
        asked: Any = {"model": model, "contents": f"exchange {number}"}
        ask = client.models.generate_content_stream
        answers = ask(**asked) if streamed else [client.models.generate_content(**asked)]
        for answer in answers:
            for part in answer.parts or []:
                if part.inline_data and part.inline_data.data and not part.thought:
                    yield part.inline_data.data

    return find


def openrouter(url: str, key: str, model: str) -> Finder:
    from openrouter import OpenRouter

    client = OpenRouter(api_key=key, server_url=f"{url}/api/v1")

    def find(number: int, streamed: bool) -> Iterator[bytes | str]:
        asked: Any = {"model": model, "prompt": f"exchange {number}", "retries": None}
        if not streamed:
            for image in client.images.generate(**asked).data:
                yield b64decode(image.b64_json)
            return
        with client.images.generate(**asked, stream=True) as events:
            for event in events:
                if event.type == "image_generation.completed":
                    yield b64decode(event.b64_json)

    return find


def fal(url: str, key: str, model: str) -> Finder:
    from fal_client import Completed, SyncClient, client

    client.QUEUE_URL_FORMAT, client.MAX_ATTEMPTS = f"{url}/", 1
    fal = SyncClient(key=key)

    def find(number: int, _: bool) -> Iterator[bytes | str]:
        handle = fal.submit(model, arguments={"prompt": f"exchange {number}"})
        if not any(isinstance(handle.status(), Completed) for _ in range(_POLLS)):
            return
        result = handle.get()
        for image in result["images"] if result.get("images") else [result["image"]]:
            yield image["url"]

    return find


def replicate(url: str, key: str, model: str) -> Finder:
    import replicate

    client = replicate.Client(api_token=key, base_url=url)

    def find(number: int, streamed: bool) -> Iterator[bytes | str]:
        job = client.models.predictions.create(model=model, input={"prompt": f"exchange {number}"})
        for _poll in range(_POLLS):
            if job.status in ("succeeded", "failed", "canceled"):  # as its `wait` does
                break
            job.reload()
        if job.status == "succeeded" and job.output:
            yield from [job.output] if isinstance(job.output, str) else job.output

    return find


def wavespeed(url: str, key: str, model: str) -> Finder:
    from wavespeed.api.client import Client

    client = Client(api_key=key, base_url=url, max_retries=0, retry_interval=0.0)

    def find(number: int, _: bool) -> Iterator[bytes | str]:
        made = client.run(model, {"prompt": f"exchange {number}"}, poll_interval=0.005, timeout=0.1)
        yield from made["outputs"]

    return find


def found(find: Finder, number: int, streamed: bool) -> list[str]:
    kept: list[str] = []
    try:
        for one in find(number, streamed):
            link = _LINK.search(one) if isinstance(one, str) else None
            if link:
                kept.append(link[1])
            elif isinstance(one, bytes):
                kept.append(hashlib.sha256(one).hexdigest())
    except Exception:
        pass
    return kept


def main(provider: str, url: str, key: str, model: str, streamed: str) -> None:
    warnings.simplefilter("ignore")
    logging.disable()
    with redirect_stdout(sys.stderr):
        find: Finder = globals()[provider](url, key, model)
        results = [found(find, number, one == "1") for number, one in enumerate(streamed)]
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
