"""Whether the built-in oracle says so when it is shown what it does not know: images flagged, kind by kind."""

from typing import Any

from graphdrl.bench.registry import Say
from graphdrl.bench.runs import fresh_folder
from graphdrl.config import load_config
from jobs import evaluate_oracle, labelled_images

_NUM_IMAGES = 400
_SIZE = 64
_KNOWN = ("faces", "avatars:avataaars", "avatars:open-peeps")
_UNKNOWN = ("avatars:personas", "avatars:lorelei", "photographs")
_OTHER_DRAW = 1
"""The calibration's own gold sets are draw 0."""


def run(say: Say) -> dict[str, Any]:
    """Of each kind the share of images flagged, the share of grades on which two wordings agree, and the verdict.

    Known kinds are new draws of what the model learnt from; the others it never saw.
    """
    with fresh_folder() as folder:
        config = load_config(None, ["name=oracle-doubt", f"oracle.score_store={folder}/score_store"])
        sets = [labelled_images(kind, _NUM_IMAGES, _SIZE, _OTHER_DRAW) for kind in (*_KNOWN, *_UNKNOWN)]
        outcome, _ = evaluate_oracle(sets, config, say)
    figures: dict[str, Any] = {}
    for one in outcome:
        assert one.doubt is not None, "the built-in model has no calibration beside its weights"
        figures[one.name] = {
            "learnt_from": one.name in _KNOWN,
            "share_flagged": round(one.doubt.share_flagged, 4),
            "wordings_agree": None if one.doubt.agreement is None else round(one.doubt.agreement, 4),
            "doubtful": bool(one.doubt.doubtful),
            "verdict": one.doubt.verdict,
        }
    return figures
