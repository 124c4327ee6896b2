"""The configuration: one TOML file becomes frozen dataclasses."""

from tinyserver.config.checks import parse_address
from tinyserver.config.loading import load_config, parse_config
from tinyserver.config.sections import Bucket, Config, Listener, RateLimits, Smtp, Support
from tinyserver.config.values import ConfigError, Portion, key_of

__all__ = [
    "Bucket",
    "Config",
    "ConfigError",
    "Listener",
    "Portion",
    "RateLimits",
    "Smtp",
    "Support",
    "key_of",
    "load_config",
    "parse_address",
    "parse_config",
]
