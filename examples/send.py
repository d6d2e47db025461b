"""Send the next edit of a conversation: python3 -m examples.send conv_… "Black and white" """

import sys

from examples.client import mutate

if len(sys.argv) != 3:
    sys.exit('Usage: python3 -m examples.send CONVERSATION "MESSAGE"')
conversation_id, message = sys.argv[1:]
turn = mutate("send", conversationId=conversation_id, userMessage=message)["turn"]

print(f"Turn {turn['turnIndex']} has these references:")
for reference in turn["references"]:
    print(f"  {reference['image']['id']}  {reference['origin']}")
