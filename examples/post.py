"""Generate a post and watch it: python3 -m examples.post "Our new soap" local-silver local-ink

The subscription is read over HTTP, as server-sent events: the standard library has no WebSockets.
"""

import sys

from examples.client import describe, follow, mutate

ENDED = {"GENERATED", "FAILED", "CANCELLED"}


def main(message: str, *models: str) -> None:
    post = mutate("generate_post", userMessage=message, selectedModels=models or None)["post"]
    print(f"{post['id']} is being written.")
    written, landed = "", set[str]()
    for data in follow("follow_post", id=post["id"]):
        post = data["postUpdated"]
        written = show_caption(post["caption"], written)
        for output in post["outputs"] if post["status"] != "GENERATING_CAPTION" else ():
            label = output["model"]["label"]
            if output["status"] in {"COMPLETED", "FAILED"} and label not in landed:
                landed.add(label)
                done = post["totalModels"] - len(post["pendingModels"])
                print(f"\n{done}/{post['totalModels']} {describe(output)}", end="")
        if post["status"] in ENDED:
            break
    print(f"\n{post['status']}")
    if post["captionError"]:
        sys.exit(post["captionError"]["message"])


def show_caption(caption: str, before: str) -> str:
    """Print what has been added to the caption."""
    if caption.startswith(before):
        print(caption.removeprefix(before), end="", flush=True)
    else:
        print(f"\n{caption}", end="", flush=True)
    return caption


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit('Usage: python3 -m examples.post "MESSAGE" [MODEL …]')
    main(*sys.argv[1:])
