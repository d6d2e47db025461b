"""Upload an image: python3 -m examples.upload FILE"""

import mimetypes
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from examples.client import TIMEOUT_SECONDS, mutate

if len(sys.argv) != 2:
    sys.exit("Usage: python3 -m examples.upload FILE")
path = Path(sys.argv[1])
data = path.read_bytes()
file = {
    "contentType": mimetypes.guess_type(path.name)[0],
    "byteSize": len(data),
    "filename": path.name,
}

(upload,) = mutate("create_upload", files=[file])["uploads"]
headers = {header["name"]: header["value"] for header in upload["headers"]}
request = Request(upload["url"], data, headers, method="PUT")
try:
    urlopen(request, timeout=TIMEOUT_SECONDS).close()
except HTTPError as error:
    sys.exit(f"The upload failed with status {error.code}.")
image = mutate("complete_upload", uploadId=upload["id"])["image"]

print(f"{image['id']}  {image['width']} × {image['height']} pixels\n  {image['url']}")
