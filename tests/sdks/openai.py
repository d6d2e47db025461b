"""Calls a simulated OpenAI, and a simulated Azure, with OpenAI's own SDK; prints what it has read.

    openai.py <base URL> <key> <request>…

Each request is an object of JSON: the client, the script, and what is asked for.
"""

import base64
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import openai

_PICTURE: Final = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def _client(kind: str, url: str, key: str) -> openai.OpenAI:
    if kind == "openai":
        return openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0)
    if kind == "azure v1":
        query = {"api-version": "preview"}
        return openai.OpenAI(
            api_key="unused",
            base_url=f"{url}/openai/v1",
            default_query=query,
            default_headers={"api-key": key},
            max_retries=0,
        )
    deployment = {"azure_deployment": "gpt-image-2"} if kind == "azure deployment" else {}
    return openai.AzureOpenAI(
        api_key=key,
        azure_endpoint=url,
        api_version="2025-04-01-preview",
        max_retries=0,
        **deployment,
    )


def _asked(client: openai.OpenAI, asked: dict[str, Any]) -> Any:
    if "messages" in asked:
        return client.chat.completions.create(**asked)
    files = asked.pop("files", 0)
    if files:
        named = [(f"{number}.png", _PICTURE, "image/png") for number in range(files)]
        return client.images.edit(image=named[0] if files == 1 else named, **asked)
    return client.images.generate(**asked)


def _digest_of(image: Any) -> str:
    return base64.b64decode(image.b64_json)[:4].hex()


def _understood(answer: Any) -> Iterator[dict[str, Any]]:
    if isinstance(answer, openai.Stream):
        for event in answer:
            if getattr(event, "object", "") == "chat.completion.chunk":
                yield from _written(event)
                continue
            result = {"type": event.type, "picture": _digest_of(event)}
            if event.type.endswith("completed"):
                result["usage"] = event.usage.total_tokens
            else:
                result["index"] = event.partial_image_index
            yield result
        return
    yield {
        "pictures": [_digest_of(image) for image in answer.data],
        "usage": answer.usage.total_tokens,
    }


def _written(chunk: Any) -> Iterator[dict[str, Any]]:
    for choice in chunk.choices:
        said = {"text": choice.delta.content, "refusal": choice.delta.refusal}
        said["finish"] = choice.finish_reason
        yield {name: value for name, value in said.items() if value}
    if chunk.usage:
        yield {"usage": chunk.usage.total_tokens}


def _outcome(url: str, key: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    client = _client(asked.pop("client"), url, asked.pop("key", key))
    result: list[dict[str, Any]] = []
    try:
        result.extend(_understood(_asked(client, asked)))
    except openai.APIError as error:
        status = getattr(error, "status_code", None)
        result.append({"error": type(error).__name__, "status": status, "code": error.code})
    return result


def main() -> None:
    url, key, *requests = sys.argv[1:]
    outcomes = [_outcome(url, key, json.loads(request)) for request in requests]
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main()
