"""What the API server may answer instead of the wished, as types: callers decide by type, people read the words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A request that failed. `status` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, *, status: int = 0, reason: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


class NotFoundError(ApiError):
    """The object, its namespace or its kind does not exist."""


class ConflictError(ApiError):
    """Somebody else wrote first, holds the name, or owns the field; the message says who."""


class ForbiddenError(ApiError):
    """A right is missing, or a quota or an admission policy refuses."""


class TerminatingError(ForbiddenError):
    """The namespace is being deleted: nothing can be made in it any more, and nothing needs to be."""


class InvalidError(ApiError):
    """The API server does not accept the content; the message holds its words."""


class UnavailableError(ApiError):
    """No usable answer: connection refused, time-out, 429 or 5xx. Worth trying again."""


class FencedError(ApiError):
    """Not sent: this replica does not hold the lease."""


_TYPES: Mapping[int, type[ApiError]] = {
    400: InvalidError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: ConflictError,
    413: InvalidError,
    415: InvalidError,
    422: InvalidError,
    429: UnavailableError,
}


def from_answer(status: int, body: bytes, *, doing: str, retry_after: str | None = None) -> ApiError:
    """The error of an answer that is not 2xx, with the server's own words."""
    message, reason = "", ""
    kind = _TYPES.get(status, UnavailableError if status >= 500 else ApiError)
    try:
        answer: Any = json.loads(body)
        message, reason = str(answer.get("message") or ""), str(answer.get("reason") or "")
        causes = (answer.get("details") or {}).get("causes") or ()
        if any(cause.get("reason") == "NamespaceTerminating" for cause in causes):
            kind = TerminatingError
    except (ValueError, AttributeError):
        message = body[:200].decode(errors="replace").strip()
    return kind(
        f"{doing}: {message or f'the API server answered {status}'}",
        status=status,
        reason=reason,
        retry_after=_seconds(retry_after),
    )


def _seconds(header: str | None) -> float | None:
    try:
        return min(max(float(header), 0.0), 60.0) if header is not None else None
    except ValueError:
        return None
