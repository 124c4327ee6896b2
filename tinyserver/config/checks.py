"""What no single key of the configuration can tell: whether the values are possible, and fit together."""

import re
from dataclasses import fields
from ipaddress import ip_address, ip_network

from tinyserver.config.sections import Bucket, Config
from tinyserver.config.values import ConfigError
from tinyserver.protocol import base64
from tinyserver.protocol.errors import InvalidUsername
from tinyserver.protocol.identifiers import check_localpart, is_valid_server_name
from tinyserver.protocol.room_versions import ROOM_VERSIONS

_KEY_BYTES = 32


def check_config(config: Config) -> None:
    """Whether the server can work with it. Raises ConfigError."""
    if not is_valid_server_name(config.server_name):
        raise ConfigError(f'"server_name" must be a name such as "example.org", not {config.server_name!r}.')
    if config.rooms.default_version not in ROOM_VERSIONS:
        raise ConfigError(f'"rooms.default_version" must be one of {", ".join(ROOM_VERSIONS)}.')
    try:
        check_localpart(config.administration.account, config.server_name)
    except InvalidUsername as error:
        raise ConfigError(f'"administration.account" must be the name of an account: {error.message}') from error
    if not config.listen:
        raise ConfigError('"listen" is empty: add a [[listen]] section with an address.')
    for index, listener in enumerate(config.listen):
        parse_address(listener.address, f"listen[{index}].address")
        if bool(listener.tls_certificate) != bool(listener.tls_key):
            raise ConfigError(f'"listen[{index}]" needs both tls_certificate and tls_key, or neither.')
        for proxy in listener.trusted_proxies:
            _check_network(proxy, f"listen[{index}].trusted_proxies")
    for each in fields(config.rate_limits):
        bucket = getattr(config.rate_limits, each.name)
        if isinstance(bucket, Bucket) and (bucket.per_second <= 0 or bucket.burst < 1):
            raise ConfigError(f'"rate_limits.{each.name}" needs a positive per_second and a burst of 1 or more.')
    if config.federation.public_address and not is_valid_server_name(config.federation.public_address):
        raise ConfigError('"federation.public_address" must be a host such as "matrix.example.org:443".')
    if not 1 <= config.federation.retry_pause <= 3600:
        raise ConfigError('"federation.retry_pause" must be from "1s" to "1h".')
    for name in config.federation.trusted_key_servers:
        if not is_valid_server_name(name):
            raise ConfigError(f'"federation.trusted_key_servers" must hold server names, not {name!r}.')
    for server in config.outgoing.dns_servers:
        _check_dns_server(server)
    if config.passwords.memory < 1024**2 or config.passwords.iterations < 1:
        raise ConfigError('"passwords" needs at least "1 MiB" of memory and 1 iteration.')
    for name in config.identity.servers:
        if name != "*" and not is_valid_server_name(name):
            raise ConfigError(f'"identity.servers" must hold hosts such as "id.example.org", not {name!r}.')
    if config.smtp.host and not config.public_url:
        raise ConfigError('"smtp" needs "public_url": mails have links to this server in them.')
    if config.registration.email == "required" and not config.smtp.host:
        raise ConfigError('"registration.email" is "required", so mails must be sent: set "smtp.host".')
    if config.sessions.access_token_lifetime < 1:
        raise ConfigError('"sessions.access_token_lifetime" must be at least "1s".')
    if config.policy_server.public_key and not _is_key(config.policy_server.public_key):
        raise ConfigError('"policy_server.public_key" must be 32 bytes in unpadded Base64.')


def _is_key(text: str) -> bool:
    try:
        return len(base64.decode(text)) == _KEY_BYTES
    except ValueError:
        return False


def _check_dns_server(server: str) -> None:
    host, _, port = server.rpartition(":") if re.search(r"\]:\d+$|^[^:]+:\d+$", server) else (server, "", "53")
    try:
        ip_address(host.removeprefix("[").removesuffix("]"))
        valid = 0 < int(port) < 65536
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(f'"outgoing.dns_servers" must hold addresses such as "192.168.0.1", not {server!r}.')


def _check_network(network: str, key: str) -> None:
    try:
        ip_network(network, strict=False)
    except ValueError as error:
        raise ConfigError(f'"{key}" must hold addresses or networks such as "10.0.0.0/8", not {network!r}.') from error


def parse_address(address: str, key: str = "address") -> tuple[str, int]:
    """Host and port of ``"127.0.0.1:8008"`` or ``"[::]:8448"``. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f'"{key}" has an IPv6 address without brackets: write "[{host}]:{port}".')
    if not host or not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > 65535:
        raise ConfigError(f'"{key}" must be a host and a port such as "127.0.0.1:8008", not {address!r}.')
    return host, int(port)
