"""The sockets that the HTTP servers listen on."""

import asyncio
import socket
from contextlib import closing

from api.serve import tcp_listener


async def test_an_answer_in_two_pieces_does_not_wait_for_the_first_to_be_acknowledged() -> None:
    """A client acknowledges after 40 ms, and each answer on a connection that was kept would take as long."""
    accepted: asyncio.Future[asyncio.BaseTransport] = asyncio.get_running_loop().create_future()

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.set_result(transport)

    with closing(tcp_listener("127.0.0.1", 0)) as listener:
        server = await asyncio.get_running_loop().create_server(Answering, sock=listener)
        async with server:
            with socket.create_connection(listener.getsockname()):
                transport = await accepted
                connection = transport.get_extra_info("socket")
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.close()
