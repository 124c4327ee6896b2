"""Asking the server that runs on a data directory, over the socket that it has there."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from tinyserver.api.listeners import unix_socket_address
from tinyserver.cli import CommandError
from tinyserver.data_directory import DataDirectory
from tinyserver.protocol.errors import MatrixError

_TIMEOUT = 300.0  # seconds; deleting thousands of files takes its time on a small device


def ask_running_server(data: DataDirectory, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The server's JSON answer. Raises CommandError where no answer comes, MatrixError with the server's words."""
    connection = http.client.HTTPConnection("localhost", timeout=_TIMEOUT)
    try:
        with unix_socket_address(data.socket) as address:
            connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.sock.settimeout(_TIMEOUT)
            connection.sock.connect(address)
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise CommandError(
            f"a server is running on {data.path}, but does not answer at {data.socket} ({error}). "
            "If it is just starting or stopping, try again; otherwise run this command as the server's user."
        ) from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise MatrixError(answer.get("error"))
    return answer
