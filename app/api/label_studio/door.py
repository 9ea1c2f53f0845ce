"""The door for Label Studio, which knows no API keys but names and passwords: the password is the key."""

import base64
import binascii
from typing import Annotated

from fastapi import Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.requests import Request

from app.access.keys import Caller
from app.api.dependencies import ContextDep, Door, ServiceDep

_bearer = HTTPBearer(auto_error=False)
_header = APIKeyHeader(name="X-API-Key", auto_error=False)


class BasicDoor(Door):
    """A `Door` that also takes the key as the password of HTTP's basic authentication, whatever the name is."""

    async def __call__(
        self,
        request: Request,
        service: ServiceDep,
        context: ContextDep,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
        header: Annotated[str | None, Security(_header)],
    ) -> Caller:
        """Who asks; refused if they may not."""
        key = header or password_in(request.headers.get("authorization", ""))
        return await super().__call__(request, service, context, bearer, key)


def password_in(authorization: str) -> str | None:
    """The password of `Basic …`; None where there is none."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(text, validate=True).decode("utf-8").partition(":")[2] or None
    except (binascii.Error, UnicodeDecodeError):
        return None
