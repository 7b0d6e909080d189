"""Which model answers: where the built-in one lies, and the name under which a model's scores are kept."""

import hashlib
from pathlib import Path

BUILTIN = "builtin"
BUILTIN_FOLDER = Path(__file__).parent / "tiny" / "weights"

_HASHED_WHOLE = 64 << 20
_PART = 1 << 20


def model_folder(model: str) -> str:
    """What vLLM or transformers is to load: the built-in model's folder, or the name or path itself.

    Raises ValueError when it is a path at which there is no model.
    """
    if model == BUILTIN:
        return str(BUILTIN_FOLDER)
    path = Path(model).expanduser()
    if path.is_dir() and not (path / "config.json").is_file():
        raise ValueError(f"oracle.model: {str(path)!r} holds no config.json: name a folder in Hugging Face format")
    if path.is_dir():
        return str(path)
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise ValueError(
            f"oracle.model: there is no folder {str(path)!r}: name a model's folder, a hub name or builtin"
        )
    return model


def model_key(model: str, revision: str | None = None) -> str:
    """The model's name for the score store: other weights in the same folder give another key.

    A folder's key ends in a hash of its configuration and weights (of their sizes, heads and tails when they are
    large); a hub name is its own key, with the revision when one is pinned.
    """
    folder = Path(model_folder(model))
    if not folder.is_dir():
        return model if revision is None else f"{model}@{revision}"
    name = BUILTIN if model == BUILTIN else folder.resolve().name
    return f"{name}-{_fingerprint(folder)}"


def _fingerprint(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".json", ".safetensors", ".jinja"))
    digest = hashlib.blake2b(digest_size=6)
    for path in files:
        size = path.stat().st_size
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as file:
            if size <= _HASHED_WHOLE:
                digest.update(file.read())
            else:
                digest.update(file.read(_PART))
                file.seek(-_PART, 2)
                digest.update(file.read())
    return digest.hexdigest()
