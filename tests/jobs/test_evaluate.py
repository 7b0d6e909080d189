"""What `graphdrl evaluate` measures: with labels and without, in the eyes of an oracle, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_jobs import colours, put_oracle, tiny

from graphdrl.config import Config
from graphdrl.models import GEM
from graphdrl.models.gem import GEMConfig
from graphdrl.training import Run
from jobs import Measures, attributes_of, evaluate_run

LABELLED = ("data.num_test=90",)


@pytest.fixture
def untrained(tmp_path: Path):
    """Makes the configuration and the folder of a run whose model never learnt anything."""

    def make(*overrides: str) -> tuple[Run, Config]:
        config = tiny(tmp_path, *overrides)
        run = Run(config.folder)
        torch.manual_seed(0)
        shape = {"image_size": 32, "num_latents": 12, "base_channels": 4}
        GEM(GEMConfig(attributes=attributes_of(config), **shape)).save_pretrained(run.model)
        return run, config

    return make


def test_quality_and_what_the_oracle_sees_are_measured_beside_the_codes(
    untrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.evaluate.NUM_SAMPLES", 64)
    run, config = untrained(*LABELLED)
    said: list[str] = []
    with put_oracle(colours) as opened:
        figures = evaluate_run(run, config, Measures(features="oracle", asks=True), said.append)
    assert figures.keys() >= {"dci_d", "beta_vae", "reconstruction_mse", "reconstruction_mse_correlated"}
    assert figures.keys() >= {"fid_oracle", "kid_oracle", "fid_oracle_samples", "kid_oracle_samples"}
    assert figures.keys() >= {"oracle_disentanglement", "relation_fidelity", "relation_fidelity_unrelated"}
    assert all(np.isfinite(value) for name, value in figures.items() if name != "dci_backend")
    # Traversals of 16 images, then the images themselves, since this run has no edges, and samples.
    assert opened[0].num_images == 12 * 2 * 16 + 64 + 64
    assert "asking the oracle about samples" in said


def test_without_labels_it_is_said_what_was_measured_on(untrained) -> None:
    figures = evaluate_run(*untrained(), Measures(), lambda text: None)
    assert figures.keys() == {"measured_on", "reconstruction_mse", "elbo"}
    assert figures["measured_on"] == "training images"


def test_what_cannot_be_measured_is_said_first(untrained) -> None:
    run, config = untrained("oracle.engine=none")
    for measures, message in (
        (Measures(asks=True), "name an engine"),
        (Measures(dci_backends=("lasso",)), "there are: random_forest, gradient_boosting"),
        (Measures(features="nowhere.pt"), "there is no file 'nowhere.pt'"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_run(run, config, measures, pytest.fail)
