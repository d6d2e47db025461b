"""Signatures of the S3 API, version 4, for requests that others will send.

botocore signs as of the current time, so each of its links would be different. Here the caller
gives the time: the same time results in the same link.
"""

import hmac
import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final
from urllib.parse import quote

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_MOMENT: Final = "%Y%m%dT%H%M%SZ"
_DAYS_KEPT: Final = 2

Condition = Mapping[str, str] | Sequence[str | int]
"""A condition of a policy: a field and its exact value, or an operator and its operands."""


class Sigv4Signer:
    """Signs with one key, for one region. All times are in UTC."""

    def __init__(self, *, key_id: str, secret: str, region: str, token: str | None = None) -> None:
        self._key_id = key_id
        self._token = token
        self._secret = secret
        self._region = region
        self._quoted_id = quote(key_id, safe="")
        self._quoted_token = f"&X-Amz-Security-Token={quote(token, safe='')}" if token else ""
        self._keys: dict[str, bytes] = {}

    def query(
        self, method: str, path: str, *, headers: Mapping[str, str], at: datetime, seconds: int
    ) -> str:
        """The query that allows one request: this method, this path, these headers.

        The headers' names are in lower case and `host` is among them; the caller sends all of them.
        The path must not need escapes.
        """
        names = sorted(headers)
        moment, scope = self._scope(at)
        query = (
            f"X-Amz-Algorithm={_ALGORITHM}"
            f"&X-Amz-Credential={self._quoted_id}%2F{scope.replace('/', '%2F')}"
            f"&X-Amz-Date={moment}"
            f"&X-Amz-Expires={seconds}"
            f"{self._quoted_token}"
            f"&X-Amz-SignedHeaders={'%3B'.join(names)}"
        )
        signed = "".join(f"{name}:{headers[name]}\n" for name in names)
        # The last line stands for the body's digest, which the signer does not know.
        request = f"{method}\n{path}\n{query}\n{signed}\n{';'.join(names)}\nUNSIGNED-PAYLOAD"
        digest = sha256(request.encode()).hexdigest()
        signature = self._sign(moment, f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}")
        return f"{query}&X-Amz-Signature={signature}"

    def form(
        self, conditions: Sequence[Condition], *, at: datetime, until: datetime
    ) -> dict[str, str]:
        """The fields of a form that is accepted if it meets the conditions."""
        moment, scope = self._scope(at)
        fields = {
            "x-amz-algorithm": _ALGORITHM,
            "x-amz-credential": f"{self._key_id}/{scope}",
            "x-amz-date": moment,
        }
        if self._token:
            fields["x-amz-security-token"] = self._token
        policy = {
            "expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "conditions": [*conditions, *({name: value} for name, value in fields.items())],
        }
        fields["policy"] = b64encode(json.dumps(policy).encode()).decode()
        fields["x-amz-signature"] = self._sign(moment, fields["policy"])
        return fields

    def _scope(self, at: datetime) -> tuple[str, str]:
        moment = at.strftime(_MOMENT)
        return moment, f"{moment[:8]}/{self._region}/s3/aws4_request"

    def _sign(self, moment: str, text: str) -> str:
        return hmac.digest(self._key(moment[:8]), text.encode(), sha256).hex()

    def _key(self, day: str) -> bytes:
        key = self._keys.get(day)
        if key is None:
            key = f"AWS4{self._secret}".encode()
            for step in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, step.encode(), sha256)
            # Links of yesterday and of today are given out at the same time.
            while len(self._keys) >= _DAYS_KEPT:
                del self._keys[min(self._keys)]
            self._keys[day] = key
        return key
