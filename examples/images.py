"""List the newest images of the viewer: python3 -m examples.images"""

from examples.client import execute

for image in execute("images", first=10)["viewer"]["images"]["nodes"]:
    print(f"{image['id']}  {image['origin']}  {image['prompt'] or ''}\n  {image['url']}")
