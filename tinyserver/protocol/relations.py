"""Relationships between events, as ``m.relates_to`` in an event's cleartext content declares them.

A relationship that does not match the schema is ignored, never an error: everything here takes content as hostile as
it comes and gives back plain, storable values (event IDs and types that fit their limits and encode as UTF-8).

spec: client-server-api#forming-relationships-between-events
"""

from dataclasses import dataclass
from typing import Any, Final

from tinyserver.protocol.events import Event

THREAD: Final = "m.thread"
REPLACE: Final = "m.replace"
ANNOTATION: Final = "m.annotation"
REFERENCE: Final = "m.reference"

_MAX_IDENTIFIER_BYTES: Final = 255
_MAX_KEY_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class Relation:
    """What an event says about its parents. All fields are empty for an event without relationships.

    ``rel_type`` and ``parent_id`` are set together or not at all; ``in_reply_to`` is independent of them.
    """

    rel_type: str | None = None
    parent_id: str | None = None
    in_reply_to: str | None = None
    is_falling_back: bool = False
    """The reply is only there for clients without threads (``is_falling_back``)."""
    key: str | None = None
    """The annotation's key, such as an emoji; only for ``m.annotation``."""

    @property
    def thread_root(self) -> str | None:
        """The event ID of the thread's root if the event is in a thread by itself."""
        return self.parent_id if self.rel_type == THREAD else None

    @property
    def is_edit(self) -> bool:
        """Whether the event means to replace another one; :func:`is_valid_edit` tells whether it may."""
        return self.rel_type == REPLACE

    @property
    def is_reply(self) -> bool:
        """Whether the event is a rich reply (and not just a thread's fallback for older clients)."""
        return self.in_reply_to is not None and not (self.rel_type == THREAD and self.is_falling_back)


NO_RELATION: Final = Relation()


def relation_of(content: Any) -> Relation:
    """Read the relationships from an event's content; :data:`NO_RELATION` if there are none that are well-formed."""
    relates_to = content.get("m.relates_to") if isinstance(content, dict) else None
    if not isinstance(relates_to, dict):
        return NO_RELATION
    rel_type = _text(relates_to.get("rel_type"), _MAX_IDENTIFIER_BYTES)
    parent_id = _event_id(relates_to.get("event_id"))
    if not rel_type or parent_id is None:
        rel_type = parent_id = None
    reply = relates_to.get("m.in_reply_to")
    in_reply_to = _event_id(reply.get("event_id")) if isinstance(reply, dict) else None
    if rel_type is None and in_reply_to is None:
        return NO_RELATION
    return Relation(
        rel_type=rel_type,
        parent_id=parent_id,
        in_reply_to=in_reply_to,
        is_falling_back=relates_to.get("is_falling_back") is True,
        key=_text(relates_to.get("key"), _MAX_KEY_BYTES) if rel_type == ANNOTATION else None,
    )


def is_valid_edit(original: Event, edit: Event) -> bool:
    """Whether ``edit`` is a valid replacement of ``original``; one that is not is ignored.

    spec: client-server-api#validity-of-replacement-events
    """
    relation = relation_of(edit.content)
    return (
        relation.is_edit
        and relation.parent_id == original.event_id
        and edit.room_id == original.room_id
        and edit.sender == original.sender
        and edit.type == original.type
        and edit.state_key is None
        and original.state_key is None
        and not relation_of(original.content).is_edit
        and (edit.type == "m.room.encrypted" or isinstance(edit.content.get("m.new_content"), dict))
    )


def may_root_thread(event: Event) -> bool:
    """Whether a thread may start at ``event``: not if it is itself the child of another event.

    spec: client-server-api#validation-of-mthread-relationships
    """
    return relation_of(event.content).rel_type is None


def counts_as_annotation(target: Event, annotation: Event) -> bool:
    """Whether ``annotation`` counts as an annotation of ``target``: edits and annotations cannot be annotated.

    spec: client-server-api#mannotation-relationship-type
    """
    relation = relation_of(annotation.content)
    return (
        relation.rel_type == ANNOTATION
        and relation.key is not None
        and relation.parent_id == target.event_id
        and annotation.room_id == target.room_id
        and relation_of(target.content).rel_type not in (ANNOTATION, REPLACE)
    )


def _event_id(value: Any) -> str | None:
    text = _text(value, _MAX_IDENTIFIER_BYTES)
    return text if text is not None and text.startswith("$") and len(text) > 1 else None


def _text(value: Any, max_bytes: int) -> str | None:
    """``value`` if it is a string of at most ``max_bytes`` in UTF-8 (which has no lone surrogates), else None."""
    if not isinstance(value, str) or len(value) > max_bytes:
        return None
    if value.isascii():
        return value
    try:
        return value if len(value.encode()) <= max_bytes else None
    except UnicodeEncodeError:
        return None
