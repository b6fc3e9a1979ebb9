"""One gRPC call with a small request and no interesting answer, over cleartext HTTP/2 on localhost.

Here because of one measured fact: a load through Triton's HTTP API occupies one thread of its HTTP server, and every
client whose connection belongs to that thread waits until the load is done. Through gRPC nobody waits. The gRPC library
would double the memory of this process, and two calls that carry a name need only this much of HTTP/2 (RFC 9113): one
stream, headers as literals (RFC 7541, the peer told to keep no table), a status in the trailers.

No streaming, no TLS, no compression, no flow control: neither side sends more than a few kilobytes.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _CONTINUATION = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7, 0x9
_END_STREAM = _ACK = 0x1
_END_HEADERS, _PADDED, _PRIORITY = 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _ENABLE_PUSH = 0x1, 0x2
_STREAM = 1
_STATIC_ENTRIES = 61


class CallFailedError(Exception):
    """The call did not get an answer: the connection failed, or was closed before the trailers came."""


@dataclass(frozen=True)
class Status:
    """How the server ended the call; code 0 is success (gRPC status codes)."""

    code: int
    message: str = ""


@dataclass
class _Exchange:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    headers: dict[str, str] = field(default_factory=dict)
    ended: bool = False


async def call(
    *, port: int, method: str, message: bytes, metadata: Mapping[str, str], connect_seconds: float = 5.0
) -> Status:
    """Calls `/package.Service/Method` on localhost and waits for its status, however long that takes.
    Raises CallFailedError."""
    try:
        async with asyncio.timeout(connect_seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except (OSError, TimeoutError) as error:
        raise CallFailedError(f"nothing answers on port {port}: {error}") from None
    try:
        writer.write(_request(port, method, message, metadata))
        await writer.drain()
        return await _answer(_Exchange(reader, writer))
    except (OSError, asyncio.IncompleteReadError, IndexError, ValueError) as error:
        raise CallFailedError(f"the call broke off: {error}") from None
    finally:
        writer.close()


def _request(port: int, method: str, message: bytes, metadata: Mapping[str, str]) -> bytes:
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": f"localhost:{port}",
        "te": "trailers",
        "content-type": "application/grpc",
        **metadata,
    }
    settings = struct.pack("!HIHI", _HEADER_TABLE_SIZE, 0, _ENABLE_PUSH, 0)
    body = b"\0" + struct.pack("!I", len(message)) + message
    return b"".join(
        [
            _PREFACE,
            _frame(_SETTINGS, 0, 0, settings),
            _frame(_HEADERS, _END_HEADERS, _STREAM, _encode(headers.items())),
            _frame(_DATA, _END_STREAM, _STREAM, body),
        ]
    )


async def _answer(exchange: _Exchange) -> Status:
    while not exchange.ended:
        head = await exchange.reader.readexactly(9)
        kind, flags = head[3], head[4]
        stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
        payload = await exchange.reader.readexactly(int.from_bytes(head[:3], "big"))
        if kind == _HEADERS and stream == _STREAM:
            await _headers(exchange, flags, payload)
        elif kind == _DATA and stream == _STREAM:
            exchange.ended = bool(flags & _END_STREAM)
        elif kind == _SETTINGS and not flags & _ACK:
            exchange.writer.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            exchange.writer.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _RST_STREAM and stream == _STREAM:
            raise ValueError(f"the server reset the stream (error {int.from_bytes(payload, 'big')})")
        elif kind == _GOAWAY and int.from_bytes(payload[:4], "big") & 0x7FFFFFFF < _STREAM:
            raise ValueError("the server did not take the call")
    code = exchange.headers.get("grpc-status")
    if code is None:
        raise ValueError(f"no gRPC status; HTTP status {exchange.headers.get(':status', 'missing')}")
    return Status(int(code), unquote(exchange.headers.get("grpc-message", "")))


async def _headers(exchange: _Exchange, flags: int, payload: bytes) -> None:
    ends = bool(flags & _END_STREAM)
    if flags & _PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    if flags & _PRIORITY:
        payload = payload[5:]
    while not flags & _END_HEADERS:
        head = await exchange.reader.readexactly(9)
        if head[3] != _CONTINUATION:
            raise ValueError("the headers were interrupted")
        flags = head[4]
        payload += await exchange.reader.readexactly(int.from_bytes(head[:3], "big"))
    exchange.headers.update(_decode(payload))
    exchange.ended = ends


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _encode(headers: Iterable[tuple[str, str]]) -> bytes:
    """Every header as a literal without indexing."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def _string(text: str) -> bytes:
    data = text.encode()
    return _integer(len(data), 7) + data


def _integer(value: int, bits: int) -> bytes:
    limit = (1 << bits) - 1
    if value < limit:
        return bytes([value])
    encoded, value = [limit], value - limit
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _decode(block: bytes) -> dict[str, str]:
    """The headers that are spelled out. Those from the static table are not needed here; there is no other table,
    because the settings asked for none."""
    headers: dict[str, str] = {}
    at = 0
    while at < len(block):
        first = block[at]
        if first & 0x80:  # indexed: a common header such as `:status: 200`
            _, at = _read_integer(block, at, 7)
            continue
        if first & 0xE0 == 0x20:  # a new size of the table
            _, at = _read_integer(block, at, 5)
            continue
        index, at = _read_integer(block, at, 6 if first & 0x40 else 4)
        if index > _STATIC_ENTRIES:
            raise ValueError("the server refers to a header table that it was asked not to keep")
        name, at = ("", at) if index else _read_string(block, at)
        value, at = _read_string(block, at)
        if name:
            headers[name] = value
    return headers


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    limit = (1 << bits) - 1
    value = block[at] & limit
    at += 1
    shift = 0
    while value >= limit:
        value += (block[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not block[at - 1] & 0x80:
            break
    return value, at


def _read_string(block: bytes, at: int) -> tuple[str, int]:
    huffman = bool(block[at] & 0x80)
    length, at = _read_integer(block, at, 7)
    data = block[at : at + length]
    if len(data) != length:
        raise ValueError("a header is cut off")
    return ("" if huffman else data.decode(errors="replace")), at + length
