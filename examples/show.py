"""Poll a conversation until its latest turn has finished, and show it: examples.show conv_…"""

import sys
import time

from examples.client import describe, execute

PAUSE_SECONDS = 1
LIMIT_SECONDS = 120

if len(sys.argv) != 2:
    sys.exit("Usage: python3 -m examples.show CONVERSATION")

for _ in range(LIMIT_SECONDS // PAUSE_SECONDS):
    conversation = execute("show", id=sys.argv[1])["conversation"]
    if conversation is None:
        sys.exit("There is no such conversation.")
    turn = conversation["latestTurn"]
    if turn["status"] not in {"PENDING", "GENERATING"}:
        break
    time.sleep(PAUSE_SECONDS)

print(f"{conversation['title']}: {turn['status']}")
for output in turn["outputs"]:
    print(f"  {describe(output)}")
