"""Where runs and scores are kept: a folder on a disk, or any filesystem that pyarrow speaks to.

`places` names it and loads nothing; `files` reads and writes it.
"""

from graphdrl.storage.places import Place, Uri, cache_folder, place, working_folder

__all__ = ["Place", "Uri", "cache_folder", "place", "working_folder"]
