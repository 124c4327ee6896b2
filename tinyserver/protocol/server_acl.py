"""Server access control lists: which servers may take part in a room.

They are no authorisation rules: they are applied to the server that makes a request, never to the events of the graph.

spec: client-server-api#server-access-control-lists-acls-for-rooms
"""

import re
from collections.abc import Mapping
from typing import Any

from tinyserver.protocol.glob import Matcher, compile_glob, has_wildcards

_PORT = re.compile(r":[0-9]*\Z")
_IPV4_LITERAL = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}\Z")


class ServerAcl:
    """The content of an ``m.room.server_acl`` event, compiled once to be asked for many servers.

    Malformed content never fails: a list that is no list is an empty one, entries that are no strings are left out,
    and ``allow_ip_literals`` counts as true unless it is the boolean false.
    """

    __slots__ = ("_allow", "_allow_ip_literals", "_deny")

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._allow_ip_literals = content.get("allow_ip_literals") is not False
        self._allow = _HostList(content.get("allow"))
        self._deny = _HostList(content.get("deny"))

    @property
    def entries(self) -> int:
        """How many patterns both lists have."""
        return len(self._allow) + len(self._deny)

    def allows(self, server_name: str) -> bool:
        """Whether the server with this name (port or not, any case) may take part."""
        host = _host_of(server_name)
        if not self._allow_ip_literals and _is_ip_literal(host):
            return False
        return host not in self._deny and host in self._allow


def is_allowed(server_name: str, acl_content: object) -> bool:
    """Whether ``server_name`` may take part in a room.

    ``acl_content`` is the content of the room's current ``m.room.server_acl`` event with an empty state key, or None
    if it has no such event (then everyone may). Content of a wrong type counts as an empty object, which admits nobody.
    """
    if acl_content is None:
        return True
    return ServerAcl(acl_content if isinstance(acl_content, dict) else {}).allows(server_name)


class _HostList:
    """A list of glob patterns: literal ones in a set, since long lists of servers are mostly literal."""

    __slots__ = ("_globs", "_literals")

    def __init__(self, patterns: object) -> None:
        literals: set[str] = set()
        globs: list[Matcher] = []
        for pattern in patterns if isinstance(patterns, list) else ():
            if not isinstance(pattern, str):
                continue
            if has_wildcards(pattern):
                globs.append(compile_glob(pattern))
            else:
                literals.add(pattern.lower())
        self._literals = frozenset(literals)
        self._globs = tuple(globs)

    def __len__(self) -> int:
        return len(self._literals) + len(self._globs)

    def __contains__(self, host: str) -> bool:
        return host in self._literals or any(matches(host) for matches in self._globs)


def _host_of(server_name: str) -> str:
    return _PORT.sub("", server_name).lower()


def _is_ip_literal(host: str) -> bool:
    return host.startswith("[") or _IPV4_LITERAL.match(host) is not None
