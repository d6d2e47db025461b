"""What google-genai reads from responses. Its arguments are the URL, the key, the model, and as
JSON a list of prompts, each with whether its response is streamed.
"""

import json
import sys
from typing import Any

from google import genai
from google.genai import errors, types


def main(url: str, key: str, model: str, asked: str) -> list[dict[str, Any]]:
    client = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url))
    return [ask(client, model, prompt, streamed) for prompt, streamed in json.loads(asked)]


def ask(client: genai.Client, model: str, prompt: str, streamed: bool) -> dict[str, Any]:
    config = types.GenerateContentConfig(
        response_modalities=["TEXT", "IMAGE"],
        image_config=types.ImageConfig(aspect_ratio="16:9", image_size="1K"),
        seed=7,
    )
    writes = "flash" in model
    if writes:
        config = types.GenerateContentConfig(system_instruction="Write.", max_output_tokens=364)
    asked: dict[str, Any] = {"model": model, "contents": prompt, "config": config}
    try:
        if streamed:
            if not writes:
                config.thinking_config = types.ThinkingConfig(include_thoughts=True)
            answers = list(client.models.generate_content_stream(**asked))
        else:
            answers = [client.models.generate_content(**asked)]
    except errors.APIError as error:
        details = error.details.get("error", {}).get("details", [])
        return {"status": error.status, "reasons": [one.get("reason") for one in details]}
    result: dict[str, Any] = {"images": 0, "text": "", "block": "", "finish": ""}
    for answer in answers:
        if answer.prompt_feedback and answer.prompt_feedback.block_reason:
            result["block"] = answer.prompt_feedback.block_reason.value
        for candidate in answer.candidates or []:
            if candidate.finish_reason:
                result["finish"] = candidate.finish_reason.value
            for part in (candidate.content and candidate.content.parts) or []:
                if part.thought:
                    continue
                result["images"] += bool(part.inline_data and part.inline_data.data)
                result["text"] += part.text or ""
    return result


json.dump(main(*sys.argv[1:]), sys.stdout)
