"""Who is asking: bearer credentials, and the dependencies by which a route says whom it serves.

Three kinds of bearer: a session's own token, the application's credential and the operator's. The route
decides which kind it takes; nothing here looks at paths.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from fastapi import Request
from fastapi.security.http import HTTPBase

from holdfast.web.bearer import bearer_of
from holdfast.web.responses import Refusal, unauthenticated


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


class CredentialSet:
    """The accepted credentials of one role: usually one, two during a change, none when the role is off."""

    def __init__(self, accepted: Iterable[str]) -> None:
        """Keep digests only: they have one length, so comparing them tells nothing about the lengths."""
        self._digests = tuple(_digest(each) for each in accepted)

    def accepts(self, presented: str) -> bool:
        """Whether it is one of them. Takes as long for the first as for none."""
        digest = _digest(presented)
        found = False
        for each in self._digests:
            found |= compare_digest(each, digest)
        return found


class Credentials:
    """The application's and the operator's credentials. A role without one opens to nobody."""

    def __init__(self, application: Iterable[str] = (), operator: Iterable[str] = ()) -> None:
        """Take the accepted texts; see `CredentialSet`."""
        self.application = CredentialSet(application)
        self.operator = CredentialSet(operator)

    def __repr__(self) -> str:
        return "Credentials(hidden)"


class _Bearer(HTTPBase):
    """A bearer credential as OpenAPI sees it, read our own way."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__(scheme="bearer", scheme_name=name, description=description, auto_error=False)

    async def __call__(self, request: Request) -> str | None:  # type: ignore[override]  # another form of the answer
        return bearer_of(request)


session_scheme: Final = _Bearer("SessionToken", "The token of a session, as create and rotate answered it.")
application_scheme: Final = _Bearer("ApplicationToken", "The application's credential, HOLDFAST_APP_TOKEN.")
operator_scheme: Final = _Bearer("OperatorToken", "The operator's credential, HOLDFAST_ADMIN_TOKEN.")


@dataclass(frozen=True, slots=True)
class Gate:
    """Decides whether a bearer may use a route. Every refusal is counted."""

    credentials: Credentials
    refused: Callable[[], None]

    def refuse(self) -> Refusal:
        """The constant 401, counted."""
        self.refused()
        return unauthenticated()

    def application(self, bearer: str | None) -> None:
        """Let the application and the operator pass; raises the constant 401 for anyone else."""
        # Both are asked, so that the time tells nothing about which one it was.
        application = bearer is not None and self.credentials.application.accepts(bearer)
        operator = bearer is not None and self.credentials.operator.accepts(bearer)
        if not (application or operator):
            raise self.refuse()

    def operator(self, bearer: str | None) -> None:
        """Let the operator pass. The application gets a 403, anyone else the constant 401."""
        application = bearer is not None and self.credentials.application.accepts(bearer)
        operator = bearer is not None and self.credentials.operator.accepts(bearer)
        if operator:
            return
        self.refused()
        if application:
            raise Refusal(403, "forbidden", "this takes the operator's credential")
        raise unauthenticated()
