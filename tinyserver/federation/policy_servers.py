"""Asking policy servers for their signature. Nobody waits long for one, and for strangers' events hardly at all.

spec: server-server-api#asking-for-a-policy-server-signature-on-an-event
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from tinyserver.federation.client import FederationClient
from tinyserver.outgoing.errors import HttpError, OutgoingError
from tinyserver.protocol.errors import Forbidden, Unknown
from tinyserver.protocol.request_auth import path_of

OURS_TIMEOUT = 10.0
"""Seconds that a local user may have to wait for a policy server."""
THEIRS_TIMEOUT = 3.0
"""Seconds that events of other servers are held up by one."""
SLOW_PAUSE = 60.0
"""Seconds for which a policy server that was slow or silent is not asked about events of other servers again."""
MAX_SLOW = 200
MAX_BYTES = 64 * 1024
_PATH = path_of("_matrix", "policy", "v1", "sign")


class RefusedByPolicyServer(Forbidden):
    """A policy server does not want an event. The code and the words are its own."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(message, status=status)
        self.errcode = errcode


class RemotePolicyServers:
    """Asks policy servers (`rooms.policy.PolicyServers`).

    Args:
        client: requests to other servers.
        server_name: this server, which is no policy server.
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, client: FederationClient, server_name: str, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._server_name = server_name
        self._monotonic = monotonic
        self._slow: OrderedDict[str, float] = OrderedDict()

    async def sign(self, server: str, pdu: Mapping[str, Any], *, is_ours: bool) -> dict[str, Any]:
        """Ask for a signature on an event.

        Raises:
            RefusedByPolicyServer: the policy server refuses.
            Forbidden: it is none.
            Unknown (503): it does not answer in time, or nonsense.

        spec: server-server-api#post_matrixpolicyv1sign
        """
        if server == self._server_name:
            raise Forbidden(f"{server} is no policy server")
        unreachable = Unknown(f"The policy server {server} of this room does not answer; try it later", status=503)
        if not is_ours and self._slow.get(server, 0.0) > self._monotonic():
            raise unreachable
        content = {key: value for key, value in pdu.items() if key != "unsigned"}
        timeout = OURS_TIMEOUT if is_ours else THEIRS_TIMEOUT
        started = self._monotonic()
        try:
            return await self._client.post(server, _PATH, content, timeout=timeout, max_bytes=MAX_BYTES)
        except HttpError as error:
            if error.errcode == "M_UNRECOGNIZED":
                raise Forbidden(f"{server} is no policy server") from error
            if error.errcode is None or not 400 <= error.status < 500:
                raise unreachable from error
            message = error.message or "The policy server does not want this here."
            raise RefusedByPolicyServer(error.status, error.errcode, message) from error
        except OutgoingError as error:
            raise unreachable from error
        finally:
            if not is_ours and self._monotonic() - started > THEIRS_TIMEOUT / 2:
                self._note_slow(server)

    def _note_slow(self, server: str) -> None:
        self._slow.pop(server, None)
        self._slow[server] = self._monotonic() + SLOW_PAUSE
        if len(self._slow) > MAX_SLOW:
            self._slow.popitem(last=False)
