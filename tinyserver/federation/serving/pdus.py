"""PDUs as they go out to other servers, and the chains of events that authorise them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tinyserver.protocol import canonical_json
from tinyserver.protocol.client_events import federation_event
from tinyserver.protocol.events import Event
from tinyserver.storage import auth_graph, events
from tinyserver.storage.transaction import ReadTransaction


def pdu_text(event: Event) -> bytes:
    """The JSON of an event in the format of its room version, without the `unsigned` that it may have come with."""
    return canonical_json.encode_lenient(federation_event(event))


def pdu_texts(tx: ReadTransaction, nids: Sequence[int]) -> list[bytes]:
    """The JSON of some of a long list of events, in its order."""
    found = events.get_many(tx, nids, keep=False)
    return [pdu_text(found[nid].event) for nid in nids]


def auth_chain(tx: ReadTransaction, nids: Collection[int]) -> set[int]:
    """The nids of the auth events of these events, of their auth events, and so on."""
    chain: set[int] = set()
    todo: Collection[int] = nids
    while todo:
        further = {nid for auth in auth_graph.auth_nids(tx, todo).values() for nid in auth}
        todo = further - chain
        chain |= todo
    return chain
