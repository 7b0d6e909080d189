"""What the numbers of a run are called and what they mean, in one line each."""

from dataclasses import dataclass
from typing import Literal

Style = Literal["number", "percent", "seconds", "unit", "share"]
"""How a value is written: as it is; in percent; as a duration; from 0 to 1 or in percent with a bar beside it."""


@dataclass(frozen=True)
class Term:
    label: str
    meaning: str = ""
    style: Style = "number"


TERMS: dict[str, Term] = {
    "name": Term("Run"),
    "method": Term("Method"),
    "backend": Term("Backend", "ray: workers under Ray Train with DeepSpeed; local: one process of plain PyTorch."),
    "device": Term("Device"),
    "steps": Term("Steps", "Updates of the generator's weights."),
    "images_trained": Term("Images trained on", "Images seen by the optimiser, repeats counted."),
    "images_scored": Term("Images scored", "Distinct images that the oracle graded on every attribute."),
    "images_per_s": Term("Images per second", "Over all workers, from the first step to the last."),
    "edge_versions": Term("Edge versions", "How often the relations were estimated anew as scores arrived."),
    "versions_before_half": Term("Versions before half-time", "Versions that training took in its first half."),
    "seconds": Term("Duration", "From the command to this page.", "seconds"),
    "train_seconds": Term("Training alone", "Time in training steps, without set-up and evaluation.", "seconds"),
    "num_workers": Term("Workers", "Data-parallel ranks."),
    "zero_stage": Term("ZeRO stage", "What DeepSpeed shards: 0 nothing, 1 optimiser, 2 and gradients, 3 and weights."),
    "oracle_engine": Term("Oracle engine", "What ran the multimodal model."),
    "oracle_model": Term("Oracle model"),
    "oracle_queue": Term("Oracle queue", "Images whose grades were still awaited."),
    "relations_version": Term("Version of the edges", "The version that training used."),
    "questions_asked": Term("Questions asked", "Grades that the model computed: images times attributes."),
    "oracle_wait_fraction": Term("Time waiting for the oracle", "Share of the workers' time.", "percent"),
    "relations.spearman": Term(
        "Recovery (Spearman)", "Are estimated and true weights in the same order? Over all edges; 1 is perfect.", "unit"
    ),
    "relations.sign_accuracy": Term(
        "Sign accuracy", "Share of the resolved edges whose sign is the true one.", "share"
    ),
    "relations.resolved_edges": Term("True edges resolved", "True edges whose interval keeps clear of 0."),
    "relations.true_edges": Term("True edges", "Directed edges whose true weight is at least 0.1 in size."),
    "relations.auroc": Term(
        "AUROC", "Chance that a true edge is estimated stronger than a pair without one; 0.5 is guessing.", "unit"
    ),
    "relations.coverage": Term(
        "Interval coverage", "Share of the true weights inside their 95 % interval; 95 % is honest.", "share"
    ),
    "relations.weak_resolved": Term("Weak edges", "Resolved edges whose true weight is below 0.1 in size."),
    "relations.mean_error": Term("Mean error", "Mean distance of estimated from true weights, over all edges."),
    "relations.num_scored": Term("Images scored", "What the last version was estimated from."),
    "relations.estimator": Term("Estimator"),
    "relations.resolved": Term("Resolved edges", "Edges whose sign the scored images settle."),
    "relations.effective_sample_size": Term(
        "Effective sample size", "What the scored images are worth after the weights that decorrelate them."
    ),
    "metrics.dci_d": Term("DCI disentanglement", "Does each latent dimension tell of one factor only?", "unit"),
    "metrics.dci_c": Term("DCI completeness", "Is each factor told by one latent dimension only?", "unit"),
    "metrics.dci_i": Term("DCI informativeness", "How well can the factors be predicted from the code?", "unit"),
    "metrics.dci_backend": Term("DCI backend", "The classifier behind DCI: its figures depend on it."),
    **{
        f"metrics.dci_{letter}_{backend}": Term(f"DCI {what}, {words}", "The same by another classifier.", "unit")
        for letter, what in (("d", "disentanglement"), ("c", "completeness"), ("i", "informativeness"))
        for backend, words in (("random_forest", "random forest"), ("gradient_boosting", "gradient boosting"))
    },
    "metrics.mutual_information": Term(
        "Mutual information", "Share of a factor's entropy that its best dimension tells, mean over factors.", "unit"
    ),
    "metrics.mig": Term(
        "Mutual information gap", "How far is the best dimension of a factor ahead of the second best?", "unit"
    ),
    "metrics.sap": Term(
        "SAP", "The same gap, in how well one dimension alone predicts the factor (Kumar et al. 2018).", "unit"
    ),
    "metrics.factor_vae": Term(
        "FactorVAE score", "Can the factor that is held fixed be told from the dimension that varies least?", "unit"
    ),
    "metrics.beta_vae": Term(
        "BetaVAE score",
        "Can a linear classifier tell which factor two images share from how far each dimension goes between them?",
        "unit",
    ),
    "metrics.modularity": Term("Modularity", "Does each dimension share information with one factor only?", "unit"),
    "metrics.explicitness": Term("Explicitness", "Can a linear classifier read the factors off the code?", "unit"),
    "metrics.irs": Term("IRS", "Do dimensions hold still when other factors than their own change?", "unit"),
    "metrics.consistency": Term("Consistency", "Does a factor's dimension hold still while the factor does?", "unit"),
    "metrics.restrictiveness": Term(
        "Restrictiveness", "Do the other dimensions hold still when a factor changes by itself?", "unit"
    ),
    "metrics.info_m": Term("InfoM", "Modularity: is what a dimension tells of one factor?", "unit"),
    "metrics.info_c": Term("InfoC", "Compactness: is what is told of a factor told by one dimension?", "unit"),
    "metrics.info_e": Term(
        "InfoE", "Explicitness: share of the factors' entropy that a linear classifier reads.", "unit"
    ),
    "metrics.gaussian_total_correlation": Term(
        "Total correlation", "What dimensions say of each other, in nats, as if codes were normal; less is better."
    ),
    "metrics.gaussian_wasserstein_correlation_norm": Term(
        "Wasserstein correlation", "How far codes, as if normal, are from independent ones; 0 is independent."
    ),
    "metrics.mutual_info_score": Term(
        "Information between dimensions",
        "Mutual information of two dimensions in nats, mean over pairs; less is better.",
    ),
    "metrics.elbo": Term(
        "ELBO", "Evidence lower bound in nats an image, with one model of observation for all methods; no label needed."
    ),
    "metrics.udr": Term(
        "UDR", "Do the other models of the search find the same dimensions (Duan et al. 2020)? No label needed.", "unit"
    ),
    "metrics.oracle_disentanglement": Term(
        "Oracle disentanglement", "Does each node, traversed, move one attribute only in the oracle's eyes?", "unit"
    ),
    "metrics.oracle_exclusivity": Term(
        "Oracle exclusivity", "The same, of whatever moves at all, be it ever so little; read it with coverage.", "unit"
    ),
    "metrics.oracle_completeness": Term(
        "Oracle completeness", "Is each attribute moved by one node only in the oracle's eyes?", "unit"
    ),
    "metrics.oracle_own_share": Term(
        "Oracle, own share", "How much of what a named node moves is the attribute that it is named after?", "unit"
    ),
    "metrics.oracle_coverage": Term(
        "Oracle coverage", "Share of the attributes that some node moves by half a grade or more.", "share"
    ),
    "metrics.oracle_moved": Term(
        "Oracle, grades moved",
        "How far an attribute goes by its strongest node, in grades of 0..5, mean over attributes.",
    ),
    "metrics.reconstruction_mse_correlated": Term(
        "Reconstruction error, as trained", "The same on new images drawn as the training images were."
    ),
    "metrics.reconstruction_mse": Term(
        "Reconstruction error", "Mean squared error a pixel and channel, with intensities in [0, 1]; less is better."
    ),
    "metrics.measured_on": Term("Measured on", "Without known factors, no new images can be drawn to measure on."),
    **{
        f"metrics.{distance}_{network}{suffix}": Term(
            f"{distance.upper()} of {made} ({words})",
            f"Distance of {made} from images, in features of {seer}; less is better, other features do not compare.",
        )
        for distance in ("fid", "kid")
        for network, words, seer in (
            ("oracle", "oracle's features", "the built-in oracle's vision"),
            ("inception", "Inception", "an Inception network"),
        )
        for suffix, made in (("", "reconstructions"), ("_samples", "samples"))
    },
    "metrics.relation_fidelity": Term(
        "Relation fidelity",
        "Mean distance of the relations that the oracle sees in samples from the data's; less is better.",
    ),
    "metrics.relation_fidelity_unrelated": Term(
        "Relation fidelity without relations", "The same of samples whose attributes would hang together in no way."
    ),
}

CURVES: dict[str, Term] = {
    "total": Term("Total loss", "All terms with their weights."),
    "reconstruction": Term("Reconstruction", "Squared error summed over an image's pixels."),
    "kl": Term("KL divergence", "Of the codes from the standard normal, in nats an image."),
    "rank": Term("Rank loss", "Do codes order pairs of scored images as the oracle does?"),
    "divergence": Term("Divergence", "What the critic says of how far encoder and decoder are apart."),
    "critic/total": Term("Critic's loss"),
    "critic/accuracy": Term(
        "Critic's accuracy", "How often it tells encoder pairs from decoder pairs; 0.5 is guessing."
    ),
}

COUNTERS = (
    "images_trained",
    "images_scored",
    "questions_asked",
    "relations_version",
    "oracle_queue",
    "oracle_wait_fraction",
    "seconds",
)
"""Curves that only count; they are folded away."""

HEADLINES = (
    "images_trained",
    "images_scored",
    "edge_versions",
    "relations.spearman",
    "metrics.dci_d",
    "metrics.mig",
    "metrics.reconstruction_mse",
    "seconds",
)

ORACLE_KEYS = ("images_scored", "questions_asked", "edge_versions", "versions_before_half")

ESTIMATORS: dict[str, str] = {
    "somers_d": (
        "Weights are Somers' D: the weight of A → B is the chance that two images which differ in A are ordered alike "
        "by B, minus the chance that they are ordered oppositely. The two directions of a pair differ only because "
        "one attribute ties more often than the other: a rare attribute tells much of a common one, and little the "
        "other way round."
    ),
    "tau_b": (
        "Weights are Kendall's tau-b: do the two attributes order pairs of images alike? It is symmetric, "
        "so both directions of a pair are equal."
    ),
    "partial": (
        "Weights are partial: what A tells of B once all the other attributes are known. "
        "A relation that only runs through a third attribute is close to 0 here."
    ),
    "polychoric": (
        "Weights are polychoric correlations: of the continuous quantities that the grades are cut from. "
        "They are symmetric."
    ),
}

STANDING_NOTES = (
    "Relations are association, not causation. An arrow says how much the source tells of the target in these images; "
    "it does not say what would happen if one of them were changed.",
    "Unresolved does not mean unrelated: the interval contains 0, or the edge did not pass the control of false "
    "discoveries. More scored images make the intervals narrower.",
    "Intervals (95 %) cover the choice of images, not the mistakes of the model that graded them.",
)

SEARCH_NOTES = (
    "The best of many trials looks better than it is, for it was chosen by the very figures on this page: take what is "
    "quoted from the report of the best run, whose images chose nothing.",
    "A stopped trial was trained for fewer steps than a finished one and has no rank: its objective is the last one "
    "that was measured.",
    "Trials differ by chance as well as by their values: another seed gives other figures.",
)

REPORT_NOTES = (
    "Traversals and reconstructions show what the model does with its code, not what causes what in the world.",
    "All figures are of this one run; another seed gives others.",
)


def term(key: str) -> Term:
    """The entry of a key, or a label made of the key itself."""
    words = key.split(".", 1)[-1].replace("_", " ")
    return TERMS.get(key) or CURVES.get(key) or Term(words[:1].upper() + words[1:])
