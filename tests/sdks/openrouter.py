"""What openrouter reads from responses. Its arguments are the URL, the key, and as JSON a list of
requests.
"""

import json
import sys
from base64 import b64decode
from typing import Any

from openrouter import OpenRouter, errors


def main(url: str, key: str, requests: str) -> list[dict[str, Any]]:
    with OpenRouter(api_key=key, server_url=url) as client:
        return [ask(client, request) for request in json.loads(requests)]


def ask(client: OpenRouter, request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "messages" in request:
            return written(client.chat.send(**request, retries=None))
        answer = client.images.generate(**request, retries=None)
        if not request.get("stream"):
            return {"images": len([b64decode(image.b64_json) for image in answer.data])}
        result: dict[str, Any] = {"partials": 0}
        with answer as events:
            for event in events:
                if event.type == "image_generation.partial_image":
                    result["partials"] += bool(b64decode(event.b64_json))
                elif event.type == "image_generation.completed":
                    result["images"] = len([b64decode(event.b64_json)])
                elif event.type == "error":
                    result["error"] = event.error.code
        return result
    except errors.ResponseValidationError:
        return {"nonsense": True}
    except errors.OpenRouterError as error:
        return {"status": error.status_code, "kind": type(error).__name__}


def written(answer: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"text": "", "refusal": "", "finish": ""}
    with answer as events:
        for event in events:
            for choice in event.choices:
                result["text"] += choice.delta.content or ""
                result["refusal"] += choice.delta.refusal or ""
                result["finish"] = choice.finish_reason or result["finish"]
            if event.usage:
                result["usage"] = event.usage.total_tokens
            if event.error:
                result["error"] = event.error.code
    return result


json.dump(main(*sys.argv[1:]), sys.stdout)
