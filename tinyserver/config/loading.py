"""From the file to the configuration."""

import tomllib
from dataclasses import replace
from pathlib import Path

from tinyserver.config.checks import check_config
from tinyserver.config.sections import Config
from tinyserver.config.values import ConfigError, read_section


def load_config(file: Path) -> Config:
    """The configuration in ``file``; a relative ``data_dir`` is taken from the file's directory.

    Raises ConfigError, which says what is wrong with which key, and how to mend it.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError as error:
        raise ConfigError(
            f"{file} does not exist. Make it with: tinyserver init --server-name NAME --data DIR"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    try:
        return parse_config(text, file.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def parse_config(text: str, directory: Path) -> Config:
    """As :func:`load_config`, from the text of the file. Raises ConfigError."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"this is not TOML: {error}") from error
    config = read_section(Config, values, "")
    check_config(config)
    return _with_data_dir(config, directory)


def _with_data_dir(config: Config, directory: Path) -> Config:
    if config.data_dir.is_absolute():
        return config
    return replace(config, data_dir=directory / config.data_dir)
