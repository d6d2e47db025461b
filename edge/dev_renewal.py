"""Renews tokens of the development issuer, so that a studio may stay open for days."""

from typing import Final

import jwt
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.errors import Forbidden, Overloaded, Unauthenticated
from edge.admission import Admission
from edge.dev_tokens import DevelopmentIssuer
from edge.responses import error_response, json_response

PATH: Final = "/studio/token"
_NOT_STORED: Final = {"Cache-Control": "no-store"}


def renewal_route(admission: Admission, issuer: DevelopmentIssuer) -> Route:
    """Answer a POST that has a valid token with a new token of the same viewer."""

    async def renew(request: Request) -> Response:
        header = request.headers.get("authorization", "")
        try:
            await admission.admit_viewer(header or None)
        except Unauthenticated:
            return error_response(401, "UNAUTHENTICATED", "A valid token is needed.")
        except Forbidden:
            return error_response(403, "FORBIDDEN", "This viewer is blocked.")
        except Overloaded:
            return error_response(503, "OVERLOADED", "Please try again in a moment.")
        claims = jwt.decode(header.split()[-1], options={"verify_signature": False})
        return json_response({"token": issuer.token(claims["sub"])}, headers=_NOT_STORED)

    return Route(PATH, renew, methods=["POST"])
