"""What a client asks for: scopes, the proof key, and the authorization request as a whole.

spec: client-server-api#authorisation-code-flow, client-server-api#scope, RFC 6749 section 4.1, RFC 7636
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from tinyserver.protocol.oauth.errors import OAuthError

MAX_STATE = 4000
_MAX_SCOPE = 1000

_API = frozenset({"urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*"})
_DEVICE = ("urn:matrix:client:device:", "urn:matrix:org.matrix.msc2967.client:device:")
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_CSP_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?")  # such policies know no IPv6 addresses
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}")

Parameters = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Scope:
    """A device that is to be signed in. ``granted`` are the scopes in the client's spelling, without unknown ones."""

    device_id: str
    granted: str


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A checked request; ``challenge`` is the SHA-256 of the proof key, in base64."""

    redirect_uri: str
    state: str | None
    response_mode: str
    challenge: str
    scope: Scope
    prompts: frozenset[str]
    login_hint: str

    def callback(self, parameters: Mapping[str, str]) -> str:
        """The URL that brings an answer to the client."""
        return callback_url(self.redirect_uri, self.response_mode, self.state, parameters)


class AuthorizationRefused(OAuthError):
    """A request that is wrong, of a client that can be told so. ``location`` is the URL that tells it."""

    def __init__(self, error: OAuthError, location: str) -> None:
        super().__init__(error.code, error.message)
        self.location = location


def parse_scope(text: str) -> Scope:
    """The scope of a login: the whole API, and exactly one device.

    Raises:
        OAuthError: ``invalid_scope``.
    """
    if len(text) > _MAX_SCOPE:
        raise OAuthError("invalid_scope", "the scope is too long")
    tokens = list(dict.fromkeys(text.split(" ")))
    if not all(_SCOPE_TOKEN.fullmatch(token) for token in tokens):
        raise OAuthError("invalid_scope", "the scope is malformed")
    of_device = [token for token in tokens if token.startswith(_DEVICE)]
    devices = {token.removeprefix(_DEVICE[0]).removeprefix(_DEVICE[1]) for token in of_device}
    if not _API & set(tokens):
        raise OAuthError("invalid_scope", "the scope must have urn:matrix:client:api:*")
    if len(devices) != 1 or not all(devices):
        raise OAuthError("invalid_scope", "the scope must have exactly one urn:matrix:client:device:<device_id>")
    granted = [token for token in tokens if token in _API or token in of_device]
    return Scope(devices.pop(), " ".join(granted))


def is_proved(challenge: str, verifier: str) -> bool:
    """Whether a code verifier is the one that the challenge was made of."""
    if _VERIFIER.fullmatch(verifier) is None:
        return False
    digest = urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).rstrip(b"=")
    return hmac.compare_digest(digest, challenge.encode("ascii"))


def single(parameters: Parameters, name: str) -> str | None:
    """A parameter that may be given once; one without a value counts as left out.

    Raises:
        OAuthError: ``invalid_request``, for one that is given twice. spec: RFC 6749 section 3.1
    """
    values = parameters.get(name, ())
    if len(values) > 1:
        raise OAuthError("invalid_request", f"the parameter {name} is given more than once")
    return values[0] or None if values else None


def required(parameters: Parameters, name: str) -> str:
    """A parameter that must be given once. Raises OAuthError, ``invalid_request``."""
    value = single(parameters, name)
    if value is None:
        raise OAuthError("invalid_request", f"the parameter {name} is missing")
    return value


def parse_authorization(parameters: Parameters, redirect_uri: str) -> AuthorizationRequest:
    """The rest of an authorization request whose client and redirect URI are known to be right.

    Raises:
        AuthorizationRefused: what the client is to be told.
    """
    state: str | None = None
    mode = "query"
    try:
        state = single(parameters, "state")
        if state is not None and len(state) > MAX_STATE:
            state = None
            raise OAuthError("invalid_request", "the state is too long")
        wanted_mode = single(parameters, "response_mode") or "query"
        if wanted_mode not in ("query", "fragment"):
            raise OAuthError("invalid_request", "response_mode must be query or fragment")
        mode = wanted_mode
        if required(parameters, "response_type") != "code":
            raise OAuthError("unsupported_response_type", "response_type must be code")
        challenge = required(parameters, "code_challenge")
        if single(parameters, "code_challenge_method") != "S256" or _CHALLENGE.fullmatch(challenge) is None:
            raise OAuthError("invalid_request", "a code_challenge with code_challenge_method S256 is needed")
        scope = parse_scope(required(parameters, "scope"))
        prompts = frozenset((single(parameters, "prompt") or "").split())
        hint = single(parameters, "login_hint") or ""
        return AuthorizationRequest(redirect_uri, state, mode, challenge, scope, prompts, hint)
    except OAuthError as error:
        told = {"error": error.code, "error_description": error.message}
        raise AuthorizationRefused(error, callback_url(redirect_uri, mode, state, told)) from error


def callback_url(redirect_uri: str, mode: str, state: str | None, parameters: Mapping[str, str]) -> str:
    """A redirect URI (without a fragment) with an answer and the client's own state in its query or its fragment."""
    answer = urlencode({**({} if state is None else {"state": state}), **parameters})
    if mode == "fragment":
        return f"{redirect_uri}#{answer}"
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{answer}"


def form_target(uri: str) -> str:
    """What a content security policy must allow so that a form may end at this URI."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or _CSP_HOST.fullmatch(parts.netloc) is None:
        return f"{parts.scheme}:"
    return f"{parts.scheme}://{parts.netloc}"
