"""What the endpoints that open a session share: where the client comes from, and the answer with its tokens."""

from __future__ import annotations

from typing import Any

from tinyserver.accounts.last_seen import MAX_AGENT
from tinyserver.accounts.sessions import Origin, Tokens
from tinyserver.api.calls import Call


def origin_of(call: Call[Any, Any]) -> Origin:
    """The client's address and program."""
    return Origin(call.client_address, call.headers.get("user-agent", "")[:MAX_AGENT])


def token_answer(tokens: Tokens) -> dict[str, Any]:
    """The keys that tell a client its tokens; those that do not apply are left out."""
    answer: dict[str, Any] = {"access_token": tokens.access_token}
    if tokens.refresh_token is not None:
        answer["refresh_token"] = tokens.refresh_token
    if tokens.expires_in_ms is not None:
        answer["expires_in_ms"] = tokens.expires_in_ms
    return answer


def session_answer(user_id: str, tokens: Tokens | None) -> dict[str, Any]:
    """The answer to a login or registration; without tokens only who was registered."""
    answer: dict[str, Any] = {"user_id": user_id, "home_server": user_id.split(":", 1)[1]}
    if tokens is not None:
        answer |= {"device_id": tokens.device_id, **token_answer(tokens)}
    return answer
