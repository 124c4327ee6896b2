"""User-Interactive Authentication: a request that needs more than an access token is repeated until a flow is done.

Sessions live in memory, at most so many and so long, and are looked through only when one is used. A session that is
gone, as after a restart, is answered with a new one, so a client goes on without noticing.

spec: client-server-api#user-interactive-authentication-api
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tinyserver.protocol.errors import BadJson, InvalidParam, MatrixError, NotFound, Unauthorized, Unrecognized

MAX_SESSIONS = 2000
SESSION_SECONDS = 3600.0

Flow = tuple[str, ...]


class UserInteractionRequired(MatrixError):
    """The client must (still) complete a stage.

    Args:
        challenge: `flows`, `params`, `session` and `completed`, as the client gets them.
        error: what was wrong with the stage that the client tried, if it tried one.
    """

    default_status = 401
    default_message = "More authentication is needed."

    def __init__(self, challenge: dict[str, Any], error: MatrixError | None = None) -> None:
        super().__init__(None if error is None else error.message)
        self.challenge = challenge
        self.error = error

    def body(self) -> dict[str, Any]:
        """The challenge, with the error of the failed stage if there was one."""
        return self.challenge if self.error is None else {**self.challenge, **self.error.body()}


class StageFailed(Exception):
    """The client may try the stage again.

    Args:
        error: what it is told besides the challenge.
    """

    def __init__(self, error: MatrixError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(slots=True)
class UiaSession:
    """A request on its way through its stages; `results` holds what each completed stage found out."""

    session_id: str
    operation: str
    expires: float
    flows: Sequence[Flow]
    stages: Mapping[str, Stage]
    fingerprint: bytes | None = None
    results: dict[str, Any] = field(default_factory=dict)


class Stage(Protocol):
    """One kind of proof."""

    async def check(self, auth: Mapping[str, Any]) -> Any:
        """Look at the client's `auth` object; what is returned is kept as the stage's result.

        Raises:
            StageFailed: not proved; the client may try again.
            MatrixError: the whole request fails.
        """
        ...


class DummyStage:
    """`m.login.dummy`: always succeeds."""

    async def check(self, auth: Mapping[str, Any]) -> Any:
        """Nothing to prove."""
        return True


class UserInteractiveAuth:
    """All sessions.

    Args:
        monotonic: seconds of a clock that only runs forward.
    """

    def __init__(self, monotonic: Callable[[], float], *, capacity: int = MAX_SESSIONS) -> None:
        self._monotonic = monotonic
        self._capacity = capacity
        self._sessions: dict[str, UiaSession] = {}

    def __len__(self) -> int:
        """How many sessions are remembered; never more than the capacity."""
        return len(self._sessions)

    async def authorise(
        self,
        auth: Mapping[str, Any] | None,
        *,
        operation: str,
        parameters: Any,
        flows: Sequence[Flow],
        stages: Mapping[str, Stage],
    ) -> dict[str, Any]:
        """Let a request through once the stages of one flow are complete. The session ends with that.

        Args:
            auth: the `auth` object of the request's body.
            operation: what is to be done and by whom; a session serves only the operation that it began with.
            parameters: JSON of what is to be done. The first that are not None are bound to the session.
            flows: the flows, each the types of its stages.
            stages: by type, what checks them.

        Returns:
            The results of the completed stages by type.

        Raises:
            UserInteractionRequired: the client must complete another stage.
            InvalidParam: the parameters differ from those that the session began with.
        """

        def begin() -> UiaSession:
            session = self._new_session(operation, flows, stages)
            _bind(session, parameters)
            return session

        if not auth:
            raise UserInteractionRequired(_challenge(begin()))
        session_id = auth.get("session")
        if session_id is None:
            session = begin()
        else:
            found = self._find(session_id)
            if found is None or found.operation != operation:
                expired = Unauthorized("The authentication session has expired. Start again.")
                raise UserInteractionRequired(_challenge(begin()), expired)
            session = found
            _bind(session, parameters)
        await _try_stage(session, auth)
        if not any(set(flow) <= session.results.keys() for flow in session.flows):
            raise UserInteractionRequired(_challenge(session))
        if self._sessions.pop(session.session_id, None) is None:  # spent by the same request sent twice
            raise UserInteractionRequired(_challenge(begin()))
        return session.results

    def stage(self, session_id: str, stage_type: str) -> Stage:
        """What checks a stage of a session. Raises NotFound: there is no such session or stage."""
        session = self._find(session_id)
        if session is None or stage_type not in session.stages:
            raise NotFound("This authentication session does not exist any more. Start again in your client.")
        return session.stages[stage_type]

    async def complete_aside(self, session_id: str, auth: Mapping[str, Any]) -> None:
        """Complete a stage for a client that cannot do it itself: its user does it on a web page.

        Args:
            auth: the `auth` object as a client would send it, without the session.

        Raises:
            NotFound: there is no such session, or it has expired.
            UserInteractionRequired: the stage failed, or is not the next one; its `error` says why.

        spec: client-server-api#fallback
        """
        session = self._find(session_id)
        if session is None:
            raise NotFound("This authentication session does not exist any more. Start again in your client.")
        await _try_stage(session, auth)

    def _find(self, session_id: Any) -> UiaSession | None:
        session = self._sessions.get(session_id) if isinstance(session_id, str) else None
        return None if session is None or session.expires <= self._monotonic() else session

    def _new_session(self, operation: str, flows: Sequence[Flow], stages: Mapping[str, Stage]) -> UiaSession:
        now = self._monotonic()
        for session_id, session in list(self._sessions.items()):  # the oldest first
            if session.expires > now and len(self._sessions) < self._capacity:
                break
            del self._sessions[session_id]
        session = UiaSession(secrets.token_urlsafe(18), operation, now + SESSION_SECONDS, flows, stages)
        self._sessions[session.session_id] = session
        return session


def _bind(session: UiaSession, parameters: Any) -> None:
    if parameters is None:
        return
    text = json.dumps(parameters, sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(text.encode("ascii")).digest()
    if session.fingerprint is None:
        session.fingerprint = fingerprint
    elif session.fingerprint != fingerprint:
        raise InvalidParam("The request differs from the one that this authentication session began with.")


async def _try_stage(session: UiaSession, auth: Mapping[str, Any]) -> None:
    stage_type = auth.get("type")
    if stage_type is None:
        return  # the client asks how far it has come
    if not isinstance(stage_type, str):
        raise UserInteractionRequired(_challenge(session), BadJson("The 'type' of the stage must be text."))
    if stage_type in session.results:
        return  # what is done is not done again
    if not any(stage_type == _next_stage(flow, session.results) for flow in session.flows):
        error = Unrecognized("This stage of authentication is not the next one of any flow.")
        raise UserInteractionRequired(_challenge(session), error)
    try:
        session.results[stage_type] = await session.stages[stage_type].check(auth)
    except StageFailed as failed:
        raise UserInteractionRequired(_challenge(session), failed.error) from failed


def _next_stage(flow: Flow, completed: Mapping[str, Any]) -> str | None:
    return next((stage for stage in flow if stage not in completed), None)


def _challenge(session: UiaSession) -> dict[str, Any]:
    challenge: dict[str, Any] = {
        "flows": [{"stages": list(flow)} for flow in session.flows],
        "params": {},
        "session": session.session_id,
    }
    if session.results:
        challenge["completed"] = list(session.results)
    return challenge
