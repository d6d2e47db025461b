"""Sends the requests of all our HTTP clients to providers and receivers."""

import httpx2


async def send_request(client: httpx2.AsyncClient, request: httpx2.Request) -> httpx2.Response:
    """Send a request. Return the response once its head has arrived, or raise HTTPError."""
    try:
        return await client.send(request, stream=True)
    except AttributeError as error:
        # A connection that is reset as soon as it is open has no socket any more in uvloop, and
        # anyio asks the socket for its address all the same.
        raise httpx2.ReadError("the connection was reset") from error
