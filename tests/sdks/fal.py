"""What fal's client reads from a simulator: `python tests/sdks/fal.py URL KEY ENDPOINT ARGUMENTS`.

Prints, as JSON, which states it has seen, and the result or the error that it understood.
"""

import json
import sys

from fal_client import SyncClient, client


def main(url: str, key: str, endpoint: str, arguments: str) -> None:
    # It uses TLS for every given host.
    client.QUEUE_URL_FORMAT = f"{url}/"
    fal = SyncClient(key=key)
    result: dict[str, object] = {}
    try:
        handle = fal.submit(endpoint, arguments=json.loads(arguments))
        result["request_id"] = handle.request_id
        result["states"] = [type(event).__name__ for event in handle.iter_events(interval=0.05)]
        result["result"] = handle.get()
    except client.FalClientHTTPError as error:
        result["error"] = {"status": error.status_code, "words": str(error)}
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
