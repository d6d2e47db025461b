"""Start a conversation from an image: python3 -m examples.start "Make it night" local-silver

It prints the conversation's ID. Without --image it starts from the viewer's newest image.
"""

import sys
from argparse import ArgumentParser

from examples.client import execute, mutate

parser = ArgumentParser(prog="python3 -m examples.start")
parser.add_argument("message", help="what to change")
parser.add_argument("models", nargs="*", help="model IDs; by default the default model")
parser.add_argument("--image", help="the ID of the source image")
given = parser.parse_args()

image = given.image or execute("images", first=1)["viewer"]["images"]["nodes"][0]["id"]
models = {"selectedModels": given.models} if given.models else {}
started = mutate("start", sourceImageId=image, userMessage=given.message, **models)

print(f"Started “{started['conversation']['title']}” from {image}.", file=sys.stderr)
print(started["conversation"]["id"])
