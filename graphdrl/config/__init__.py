"""One typed, closed configuration tree, and how it is read."""

from graphdrl.config.load import ConfigError, check, dump_config, load_config
from graphdrl.config.schema import Config

__all__ = ["Config", "ConfigError", "check", "dump_config", "load_config"]
