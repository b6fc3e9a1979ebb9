"""The small gRPC call against a real gRPC server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc  # type: ignore[import-untyped]  # ships no type information
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nereus.sidecar.grpc_unary import CallFailedError, Status, _decode, _encode, _integer, _read_integer, call


@dataclass
class Echo:
    """A gRPC server that does what the message says."""

    port: int = 0
    seen: list[tuple[str, bytes, str]] = field(default_factory=list)

    async def answer(self, request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        metadata = dict(context.invocation_metadata() or ())
        self.seen.append(("/test.Service/Do", request, str(metadata.get("key"))))
        if request == b"fail":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "schön\nkaputt: 100 % 'x'")
        if request == b"slow":
            await asyncio.sleep(30)
        return b"x" * 5000


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    made = Echo()
    options = [("grpc.max_connection_age_ms", 700), ("grpc.max_connection_age_grace_ms", 300)]
    server = grpc.aio.server(options=options)
    handler = grpc.unary_unary_rpc_method_handler(made.answer)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Service", {"Do": handler})])
    made.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield made
    await server.stop(0)


async def do(echo: Echo, message: bytes, method: str = "/test.Service/Do") -> Status:
    return await call(port=echo.port, method=method, message=message, metadata={"key": "secret"})


async def test_a_call_brings_its_message_and_metadata_and_ends_with_its_status(echo: Echo) -> None:
    assert await do(echo, b"hello") == Status(0)
    assert echo.seen == [("/test.Service/Do", b"hello", "secret")]


async def test_an_error_comes_in_the_servers_words(echo: Echo) -> None:
    assert await do(echo, b"fail") == Status(3, "schön\nkaputt: 100 % 'x'")


async def test_a_method_that_is_not_there_is_unimplemented(echo: Echo) -> None:
    assert (await do(echo, b"", "/test.Service/Nothing")).code == 12


async def test_a_connection_that_reaches_its_age_ends_the_call(echo: Echo) -> None:
    try:
        assert (await do(echo, b"slow")).code == 14
    except CallFailedError:
        return


async def test_a_port_that_nobody_listens_on_is_an_error() -> None:
    with pytest.raises(CallFailedError, match="nothing answers on port 1"):
        await call(port=1, method="/a/b", message=b"", metadata={})


async def test_a_server_that_speaks_something_else_is_an_error() -> None:
    async def http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http1, "127.0.0.1", 0)
    with pytest.raises(CallFailedError):
        await call(port=server.sockets[0].getsockname()[1], method="/a/b", message=b"", metadata={})
    server.close()
    await server.wait_closed()


@given(st.integers(0, 1 << 28), st.sampled_from([4, 5, 6, 7]))
def test_integers_read_back(value: int, bits: int) -> None:
    encoded = _integer(value, bits)
    assert _read_integer(encoded, 0, bits) == (value, len(encoded))


@given(st.dictionaries(st.text("abc-", min_size=1, max_size=200), st.text(max_size=300), max_size=5))
def test_headers_read_back(headers: dict[str, str]) -> None:
    assert _decode(_encode(headers.items())) == headers
