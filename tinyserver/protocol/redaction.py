"""Redaction: what remains of an event when everything that is not essential is stripped.

spec: rooms/v1#redactions ... rooms/v11#redactions
"""

from collections.abc import Mapping
from typing import Any

from tinyserver.protocol.room_versions import RoomVersion


def redact(pdu: Mapping[str, Any], version: RoomVersion) -> dict[str, Any]:
    """A new PDU with only the keys which the room version protects from redaction.

    ``unsigned`` goes as well. Values that stay are shared with the given PDU, not copied.
    """
    top_level = version.redaction_rules.top_level
    redacted = {key: value for key, value in pdu.items() if key in top_level}
    if "content" in redacted:
        redacted["content"] = redacted_content(pdu.get("type"), redacted["content"], version)
    return redacted


def redacted_content(event_type: Any, content: Any, version: RoomVersion) -> dict[str, Any]:
    """What redaction leaves of the ``content`` of an event of this type; ``{}`` if it is not an object."""
    if not isinstance(content, dict) or not isinstance(event_type, str):
        return {}
    rule = version.redaction_rules.content.get(event_type)
    if rule is None:
        return {}
    if rule.keys is None:
        return dict(content)
    kept = {key: content[key] for key in rule.keys if key in content}
    for key, inner_keys in rule.nested.items():
        inner = content.get(key)
        if isinstance(inner, dict):
            kept[key] = {name: value for name, value in inner.items() if name in inner_keys}
    return kept
