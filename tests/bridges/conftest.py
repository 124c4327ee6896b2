"""Fixtures: servers and users, as the from-outside tests have them."""

from __future__ import annotations

from ..server.conftest import connect, fresh_server, make_server, module_server, new_user, server

__all__ = ["connect", "fresh_server", "make_server", "module_server", "new_user", "server"]
