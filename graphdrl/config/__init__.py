"""One typed, closed configuration tree, and how it is read; and searches over it."""

from graphdrl.config.load import ConfigError, check, dump_config, load_config, load_tree, set_value
from graphdrl.config.schema import Config
from graphdrl.config.search import Dimension, SearchConfig, dump_search, load_search, with_values

__all__ = [
    "Config",
    "ConfigError",
    "Dimension",
    "SearchConfig",
    "check",
    "dump_config",
    "dump_search",
    "load_config",
    "load_search",
    "load_tree",
    "set_value",
    "with_values",
]
