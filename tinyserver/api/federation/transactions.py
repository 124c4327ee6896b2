"""What other servers push to us: events, and messages that are not kept.

spec: server-server-api#transactions
"""

from __future__ import annotations

from typing import Any

import msgspec

from tinyserver.api.calls import Call, NoQuery
from tinyserver.api.routing import Answer, Auth, Surface, endpoint
from tinyserver.federation.transactions import InboundTransactions

MAX_BODY = 8 * 1024 * 1024
"""Fifty events of the greatest size, and as much again for what is not canonical and for EDUs."""


class Transaction(msgspec.Struct):
    """A transaction; what it holds is checked piece by piece, so that one bad event does not spoil the others."""

    pdus: list[Any] = []
    edus: list[Any] = []


class TransactionsApi:
    """`PUT /send`.

    :param transactions: takes them.
    """

    surface = Surface.FEDERATION

    def __init__(self, transactions: InboundTransactions) -> None:
        self._transactions = transactions

    @endpoint(
        "PUT",
        "/_matrix/federation/v1/send/{txnId}",
        spec="server-server-api#put_matrixfederationv1sendtxnid",
        auth=Auth.SERVER,
        body=Transaction,
        max_body=MAX_BODY,
    )
    async def put_send(self, call: Call[Transaction, NoQuery]) -> Answer:
        """Take a transaction, and say what became of its events."""
        body = call.body
        return await self._transactions.receive(call.origin, call.path["txnId"], body.pdus, body.edus)
