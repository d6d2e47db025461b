"""For developers: `python -m commands.webhooks listen` receives webhooks on this machine and prints
them.

It verifies signatures if it is given the secret, as a receiver has to, and can answer with an
error.
"""

import asyncio
import json
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import uvicorn
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from commands.arguments import whole_number
from commands.console import run_main
from runtime.lifecycle import CANNOT_START, STOPPED, print_error

DEFAULT_PORT: Final = 9_000
MAX_BODY_BYTES: Final = 256 * 1024
_HOST: Final = "127.0.0.1"


class Listener:
    """Prints what arrives at any path, and answers with one status. Raise ValueError where `secret`
    is not a webhook's secret.
    """

    def __init__(self, *, secret: str | None, status: int) -> None:
        self._verifier = None if secret is None else Webhook(secret)
        self._status = status
        self._seen: set[str] = set()
        app = Starlette(routes=[Route("/{path:path}", self._receive, methods=["POST"])])
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._output_error: OSError | None = None

    async def serve(self, bound: socket.socket) -> None:
        """Listen until Ctrl-C. Raise the OSError of a print that fails, as in a closed pipe."""
        await self._server.serve(sockets=[bound])
        if self._output_error is not None:
            raise self._output_error

    async def _receive(self, request: Request) -> Response:
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BODY_BYTES:
                return Response(status_code=413)
        problem = self._find_problem(body, request.headers)
        try:
            print(self._describe(body, request.headers, problem=problem), flush=True)
        except OSError as error:
            self._output_error, self._server.should_exit = error, True
        return Response(status_code=401 if problem else self._status)

    def _find_problem(self, body: bytes, headers: Mapping[str, str]) -> str | None:
        if self._verifier is None:
            return None
        try:
            self._verifier.verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError) as error:
            return str(error) or "It is not signed."
        return None

    def _describe(self, body: bytes, headers: Mapping[str, str], *, problem: str | None) -> str:
        name = headers.get("webhook-id", "without an id")
        if problem:
            verdict = f"refused: {problem}"
        else:
            verdict = "signature not verified" if self._verifier is None else "signature valid"
            verdict += f", answered {self._status}"
        again = ", again" if name in self._seen else ""
        self._seen.add(name)
        return f"{name}{again}: {verdict}\n{_format_body(body)}\n"


def main(arguments: list[str]) -> int:
    """Listen until Ctrl-C. Return 2 if that is not possible."""
    options = _parser().parse_args(arguments)
    try:
        listener = Listener(secret=options.secret, status=options.status)
    except (ValueError, RuntimeError) as error:
        print_error(f"--secret is not a secret of a webhook: {error}.")
        return CANNOT_START
    try:
        bound = socket.create_server((_HOST, options.port))
    except OSError as error:
        print_error(f"Port {options.port} cannot be used: {error}. Name another one with --port.")
        return CANNOT_START
    with bound, suppress(KeyboardInterrupt):
        address = f"http://{_HOST}:{bound.getsockname()[1]}/"
        print(f"Listening at {address} for webhooks. Ctrl-C stops it.\n", flush=True)
        asyncio.run(listener.serve(bound))
    return STOPPED


def _format_body(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except ValueError:
        return f"{len(body):,} bytes that are not JSON"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m commands.webhooks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    listen = commands.add_parser("listen", help="print webhooks that arrive on this machine")
    listen.add_argument(
        "--port", type=whole_number(0, 65_535), default=DEFAULT_PORT, help="9000 by default"
    )
    listen.add_argument(
        "--secret", help="what createWebhook returned; what is not signed with it gets 401"
    )
    listen.add_argument(
        "--status",
        type=whole_number(200, 599),
        default=204,
        help="what to answer, such as 500 to see retries; 204 by default",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_main(main))
