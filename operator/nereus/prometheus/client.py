"""One question to one Prometheus-compatible server: prometheus-api-client, with the deadlines and the honesty it lacks.

The library has blocking calls, drops the warnings of an answer and has no limit on time or size. So its session is
replaced by one that reads the body under a deadline, keeps the whole envelope and turns every way to fail into a
`QueryError` with a state and a sentence; and each call runs in a small pool of threads that the event loop waits for
no longer than the deadline. Redirects are not followed: a log-in page is not a Prometheus, and a token stays here.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

import requests
import urllib3
from prometheus_api_client.prometheus_connect import PrometheusConnect
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.exceptions import HTTPError, InsecureRequestWarning, ReadTimeoutError
from urllib3.util.retry import Retry

from nereus.prometheus.options import Options, read_secret
from nereus.prometheus.reading import Freshness

THREADS = 4
"""Queries at a time; Prometheus itself runs at most 20 by default, for everybody."""
CHUNK = 1 << 16
MOST_BYTES = 512 << 20
"""Larger answers are refused: they would be the operator's memory. 10,000 services of 20 models give about 60 MB."""
LONGEST_GET = 4000
"""Characters of a query that still go into the address: proxies that check rights often allow GET alone."""
LISTED = re.compile(r'"(result|groups)"\s*:\s*\[\s*')
"""Where the one long list of an answer begins: of series, or of groups of rules."""
BETWEEN, BLANK = re.compile(r"[\s,]*"), re.compile(r"\s*")
DECODER = json.JSONDecoder()

Row = dict[str, Any]
T = TypeVar("T")
Query = Callable[[PrometheusConnect], Any]
QUERIES = ("/query", "/query_range")
"""Paths whose answers are lists of series."""


class QueryError(Exception):
    """A query without a usable answer: what state that is, and a sentence that names the address and the remedy."""

    def __init__(self, state: Freshness, message: str, *, too_much: bool = False) -> None:
        super().__init__(message)
        self.state = state
        self.message = message
        self.too_much = too_much


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Rows as Prometheus gives them. `warnings` are not empty when the server says that the answer is incomplete."""

    rows: Sequence[Row]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Page:
    """What another page of the API holds under `data`; `warnings` as in `Answer`."""

    data: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


class Source(Protocol):
    """Something that answers PromQL. Raises QueryError."""

    async def instant(self, query: str, *, within: float) -> Answer:
        """The value now, by the server's clock."""
        ...

    async def span(self, query: str, *, start: float, end: float, step: float, within: float) -> Answer:
        """Values from start to end (epoch seconds, both included)."""
        ...

    def close(self) -> None:
        """Gives threads and connections back."""
        ...


class Client:
    """A `Source` over HTTP(S)."""

    def __init__(self, options: Options, *, threads: int = THREADS) -> None:
        self._options = options
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="prometheus")
        self._local = threading.local()

    async def instant(self, query: str, *, within: float) -> Answer:
        """See `Source`."""
        return await self._query(lambda library: library.custom_query(query), within)

    async def span(self, query: str, *, start: float, end: float, step: float, within: float) -> Answer:
        """See `Source`."""
        first, last = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
        return await self._query(lambda library: library.custom_query_range(query, first, last, f"{step:g}"), within)

    async def page(self, path: str, *, within: float, **asked: str) -> Page:
        """What `/api/v1/<path>` says, such as `rules` or `alerts`. Raises QueryError."""
        url = f"{self._options.address}/api/v1/{path}"

        def call(session: _Session, _: PrometheusConnect) -> Page:
            envelope = session.request("GET", url=url, params=asked).json()
            return Page(data=envelope["data"], warnings=session.warnings)

        return await self._run(call, within)

    def close(self) -> None:
        """Does not wait for calls under way; they end with their deadline."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _query(self, query: Query, within: float) -> Answer:
        return await self._run(lambda session, library: Answer(rows=query(library), warnings=session.warnings), within)

    async def _run(self, call: Callable[[_Session, PrometheusConnect], T], within: float) -> T:
        deadline = time.monotonic() + within
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._call, call, deadline)
        try:
            return await asyncio.wait_for(future, within)
        except TimeoutError:
            raise self._slow(within) from None

    def _call(self, call: Callable[[_Session, PrometheusConnect], T], deadline: float) -> T:
        left = deadline - time.monotonic()
        if left <= 0:
            raise self._slow(0)
        session, library = self._connection()
        session.deadline = deadline
        return call(session, library)

    def _connection(self) -> tuple[_Session, PrometheusConnect]:
        """One session per thread: they are not made to be shared."""
        if not hasattr(self._local, "pair"):
            session = _Session(self._options)
            library = PrometheusConnect(
                self._options.address, session=session, retry=Retry(0, redirect=False), method="POST"
            )
            self._local.pair = session, library
        pair: tuple[_Session, PrometheusConnect] = self._local.pair
        return pair

    def _slow(self, within: float) -> QueryError:
        waited = f" within {within:.1f} s" if within else " before earlier queries had used up the time"
        return QueryError(
            Freshness.SLOW,
            f"{self._options.address} did not answer{waited}: look at its load, or raise --prometheus-timeout",
        )


class _NoAuth(AuthBase):
    """Keeps a .netrc of the machine out of it."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Session(requests.Session):
    """What prometheus-api-client calls. Reads under `deadline` (monotonic seconds) and keeps the answer's warnings."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self._options = options
        if options.insecure:
            urllib3.disable_warnings(InsecureRequestWarning)
        self.deadline = 0.0
        self.warnings: tuple[str, ...] = ()
        # Given with every request, too: otherwise a REQUESTS_CA_BUNDLE of the environment would take its place.
        self.verify = False if options.insecure else (options.ca_file or True)
        self.cert = (options.cert_file, options.key_file) if options.cert_file else None
        self.headers.update({"Accept": "application/json", **options.headers})

    def request(self, *_: Any, **given: Any) -> requests.Response:
        address = self._options.address
        left = max(0.05, self.deadline - time.monotonic())
        asked = given.get("params") or {}
        short = len(str(asked)) < LONGEST_GET
        try:
            response = super().request(
                "GET" if short else "POST",
                given["url"],
                params=asked if short else None,
                data=None if short else asked,
                auth=self._auth(),
                timeout=left,
                verify=self.verify,
                cert=self.cert,
                stream=True,
                allow_redirects=False,
            )
            with response:
                body = self._body(response)
        except requests.exceptions.SSLError as error:
            raise QueryError(
                Freshness.UNREACHABLE,
                f"{address}: TLS failed ({_inner(error)}): check --prometheus-ca-file and the name in the address",
            ) from None
        except requests.exceptions.ConnectTimeout:
            raise self._late("no connection") from None
        except (requests.exceptions.RequestException, HTTPError, OSError) as error:
            if isinstance(error, requests.exceptions.Timeout | TimeoutError | ReadTimeoutError) or "timed out" in str(
                error
            ):
                raise self._late("no answer") from None
            raise QueryError(Freshness.UNREACHABLE, f"{address} cannot be reached: {_inner(error)}") from None
        envelope = self._envelope(response, body, of_series=given["url"].endswith(QUERIES))
        self.warnings = _warnings(envelope)
        response._content = b""
        response.json = lambda **_: envelope  # type: ignore[method-assign]  # parsed once, not again by the library
        return response

    def _auth(self) -> AuthBase:
        """Read at each use: tokens of service accounts rotate."""
        options = self._options
        try:
            if options.bearer_token_file:
                self.headers["Authorization"] = f"Bearer {read_secret(options.bearer_token_file)}"
            elif options.username:
                password = read_secret(options.password_file) if options.password_file else ""
                return HTTPBasicAuth(options.username.encode(), password.encode())
        except OSError as error:
            raise QueryError(Freshness.DENIED, f"the secret for {options.address} cannot be read: {error}") from None
        return _NoAuth()

    def _body(self, response: requests.Response) -> bytes:
        parts: list[bytes] = []
        size = 0
        while part := response.raw.read1(CHUNK, decode_content=True):
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise QueryError(
                    Freshness.UNREACHABLE,
                    f"{self._options.address}: an answer is larger than {MOST_BYTES >> 20} MiB",
                    too_much=True,
                )
            if time.monotonic() > self.deadline:
                raise self._late("the answer was not complete")
        return b"".join(parts)

    def _late(self, what: str) -> QueryError:
        return QueryError(
            Freshness.SLOW,
            f"{self._options.address}: {what} in time: look at its load, or raise --prometheus-timeout",
        )

    def _envelope(self, response: requests.Response, body: bytes, *, of_series: bool) -> dict[str, Any]:
        """The JSON object of a good answer; raises QueryError for every other one."""
        address, status = self._options.address, response.status_code
        if status in (401, 403):
            raise QueryError(
                Freshness.DENIED, f"{address} answered {status}: check the token or password and its rights to query"
            )
        if 300 <= status < 400:
            raise QueryError(
                Freshness.NOT_PROMETHEUS,
                f"{address} redirects to {response.headers.get('Location', 'nowhere')}: give the address of the API",
            )
        envelope = parse(body)
        if isinstance(envelope, dict) and envelope.get("status") == "error":
            raise _refused(address, status, envelope)
        if status >= 500 or status == 429:
            raise QueryError(Freshness.UNREACHABLE, f"{address} answered {status}: {_start(body)}")
        data = envelope.get("data") if isinstance(envelope, dict) else None
        rows = data.get("result") if isinstance(data, dict) and of_series else []
        if status != 200 or not isinstance(data, dict) or not isinstance(rows, list) or not all(map(_is_row, rows)):
            raise QueryError(
                Freshness.NOT_PROMETHEUS,
                f"{address} answered {status} and not as a Prometheus does: check the address and its path",
            )
        assert isinstance(envelope, dict)
        return envelope


def parse(body: bytes) -> Any:
    """The JSON of an answer, or None. Rows are decoded one by one: a large answer decoded in one call would hold the
    interpreter, and with it the event loop, for as long as that takes."""
    try:
        text = body.decode()
        start = LISTED.search(text)
        if not start:
            return json.loads(text)
        rows, position = [], start.end()
        while text[position] != "]":
            row, position = DECODER.raw_decode(text, BETWEEN.match(text, position).end())  # type: ignore[union-attr]  # matches nothing, too
            rows.append(row)
            position = BLANK.match(text, position).end()  # type: ignore[union-attr]  # as above
        envelope = json.loads(f"{text[: start.end()]}{text[position:]}")
        envelope["data"][start[1]] = rows
    except (ValueError, LookupError, TypeError):
        return None
    return envelope


def _is_row(row: Any) -> bool:
    """Whether a row has labels and a value or values, as those of vectors and matrices do."""
    if not isinstance(row, dict) or not isinstance(row.get("metric"), dict):
        return False
    value = row.get("value")
    return isinstance(row.get("values"), list) or (isinstance(value, list) and len(value) == 2)


def _refused(address: str, status: int, envelope: Mapping[str, Any]) -> QueryError:
    """An error in Prometheus' own words."""
    kind, said = str(envelope.get("errorType", "")), str(envelope.get("error", ""))[:300]
    slow = kind == "timeout" or "timed out" in said
    too_much = slow or "too many samples" in said or "exceeded maximum resolution" in said or "limit" in said
    state = Freshness.SLOW if slow else Freshness.UNREACHABLE
    return QueryError(state, f"{address} answered {status}: {kind}: {said}", too_much=too_much)


def _warnings(envelope: Mapping[str, Any]) -> tuple[str, ...]:
    """What says that an answer is incomplete: `warnings` (Thanos, Prometheus, Mimir), `isPartial` (VictoriaMetrics)."""
    said = envelope.get("warnings") or []
    warnings = [str(each)[:300] for each in said] if isinstance(said, list) else [str(said)[:300]]
    if envelope.get("isPartial") is True:
        warnings.append("the answer is marked as partial: a storage node did not answer")
    return tuple(warnings)


def _inner(error: BaseException) -> str:
    """The innermost reason in words: urllib3 wraps several times."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        reason = getattr(error, "reason", None) or (error.args[0] if error.args else None) or error.__cause__
        if isinstance(reason, BaseException):
            error = reason
    text = str(error)
    return text.split(": ", 1)[1] if text.startswith("<") and ": " in text else text


def _start(body: bytes) -> str:
    return " ".join(body[:200].decode(errors="replace").split())
