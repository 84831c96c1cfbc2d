"""What we change of pygls's protocol."""

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import anyio
import pytest
from singlepass.lsp.app import Protocol, build_server


def plain() -> int:
    return 1


async def slow() -> int:
    await asyncio.sleep(0)
    return 1


def nested() -> Generator[Any]:
    found = yield slow, (), None
    return found


def failing() -> int:
    raise ValueError("no")


@pytest.mark.anyio
@pytest.mark.parametrize("handler", [plain, slow, nested, failing])
async def test_nothing_is_kept_of_a_handler_that_ended(handler: Callable[[], Any]) -> None:
    """As of a notification, which has no number of its own: one for every key that is typed."""
    protocol = build_server().protocol
    assert isinstance(protocol, Protocol)
    ended: asyncio.Future[Any] = asyncio.Future()
    async with anyio.create_task_group() as connection:
        connection.start_soon(protocol.parts.run)
        protocol._execute_handler("of our own", handler, ended.set_result)
        future = await ended
        connection.cancel_scope.cancel()
    assert isinstance(future.exception(), ValueError) if handler is failing else future.result() == 1
    assert protocol._request_futures == {}
