"""How close a model's images come to the real ones: FID and KID of its reconstructions and of its samples."""

import numpy as np

from graphdrl.metrics.features import Features
from graphdrl.metrics.fid import fid, kid
from graphdrl.models import GEM
from graphdrl.training.generated import reconstructions, samples


def measure_image_quality(model: GEM, images: np.ndarray, features: Features, seed: int = 0) -> dict[str, float]:
    """Against N images uint8 [N, S, S, 3] that the model was not trained on, drawn as those that it was trained on.

    `fid_NAME` and `kid_NAME` of the images' reconstructions, `fid_NAME_samples` and `kid_NAME_samples` of N samples;
    NAME is the features'. See `graphdrl.metrics.fid`.
    """
    seen = features(images)
    figures = {}
    for suffix, made in (("", reconstructions(model, images)), ("_samples", samples(model, len(images), seed))):
        found = features(made)
        figures[f"fid_{features.name}{suffix}"] = fid(seen, found)
        figures[f"kid_{features.name}{suffix}"] = kid(seen, found)
    return figures
