"""Attacks that ask of one utterance: was it in the training?

All read the logits ``[K, N, C]`` of K models on N utterances, of which each model was trained on about half
(``members`` ``[K, N]``), and give scores ``[K, N]`` that are higher for likelier members. Each model is the target
once, and the others are what the attacker has trained on speech of the same kind.
"""

import numpy as np
from scipy.special import log_softmax

POOL_BELOW = 32
"""With fewer models than this, all utterances share one variance: few confidences say little about their spread."""
MIN_DEVIATION = 1e-3


def confidences(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log odds of the true class: ``log p_y / (1 - p_y)``.

    Source: LiRA's logit scaling (Carlini et al., 2022, section V-B).
    Differs: nothing.
    """
    utterances = np.arange(len(labels))
    true = logits[..., utterances, labels]
    others = logits.astype(np.float64, copy=True)
    others[..., utterances, labels] = -np.inf
    peak = others.max(axis=-1)
    odds: np.ndarray = true - peak - np.log(np.exp(others - peak[..., None]).sum(axis=-1))
    return odds


def loss_scores(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Minus the cross-entropy: the attack that has no reference and flatters a model; a smoke alarm, never a gate.

    Source: Yeom et al., 2018.
    Differs: no threshold is chosen; the whole ROC curve is looked at.
    """
    log_scores: np.ndarray = log_softmax(logits.astype(np.float64), axis=-1)[..., np.arange(len(labels)), labels]
    return log_scores


def lira_scores(logits: np.ndarray, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Log likelihood ratio of an utterance's confidence under models with and without it.

    Source: LiRA, online (Carlini et al., "Membership inference attacks from first principles", 2022).
    Differs: the models that are targets are each other's references, one left out; an utterance is asked once, as it
        was trained on, for nothing is augmented in training; the variance is pooled below `POOL_BELOW` models.
    """
    odds = confidences(logits, labels)
    inside, outside = (_left_out(odds, chosen) for chosen in (members, ~members))
    scores: np.ndarray = _log_density(odds, *inside) - _log_density(odds, *outside)
    return scores


def lira_scores_of(target: np.ndarray, logits: np.ndarray, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """`lira_scores` of one more model, which is none of the references, on each utterance ``[N]``.

    Args:
        target: its logits ``[N, C]``.
        logits: those of the references ``[K, N, C]``.
        labels: class indices ``[N]``.
        members: which reference was trained on which utterance ``[K, N]``.
    """
    odds, own = confidences(logits, labels), confidences(target, labels)
    inside, outside = (_moments(odds, chosen) for chosen in (members, ~members))
    scores: np.ndarray = _log_density(own, *inside) - _log_density(own, *outside)
    return scores


def rmia_scores(logits: np.ndarray, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Share of the utterances outside whose likelihood a model has raised less.

    Source: RMIA, online (Zarifzadeh et al., "Low-cost high-power membership inference attacks", 2024).
    Differs: the population is the corpus's own utterances that the model was not trained on; the factor gamma is 1, for
        any other leaves the order of scores nearly as it is.
    """
    scores: np.ndarray = np.exp(loss_scores(logits, labels))
    count = len(scores)
    reference = (scores.sum(axis=0) - scores) / (count - 1)
    raised = scores / reference
    shares: np.ndarray = np.empty(raised.shape)
    for model, ratios in enumerate(raised):
        outside = ~members[model]
        below = np.searchsorted(np.sort(ratios[outside]), ratios, side="right")
        shares[model] = (below - outside) / (outside.sum() - outside)  # nobody is compared with himself
    return shares


def _left_out(odds: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation ``[K, N]`` over the chosen models, without the model itself."""
    count = chosen.sum(axis=0) - chosen
    total = np.where(chosen, odds, 0.0)
    mean = (total.sum(axis=0) - total) / count
    squares = np.where(chosen, odds**2, 0.0)
    variance = ((squares.sum(axis=0) - squares) / count - mean**2) * count / (count - 1)
    return mean, _deviation(variance, len(odds))


def _moments(odds: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation ``[N]`` over the chosen models."""
    known = np.where(chosen, odds, np.nan)
    mean: np.ndarray = np.nanmean(known, axis=0)
    return mean, _deviation(np.nanvar(known, axis=0, ddof=1), len(odds))


def _deviation(variance: np.ndarray, num_models: int) -> np.ndarray:
    if num_models < POOL_BELOW:
        variance = np.broadcast_to(variance.mean(axis=-1, keepdims=True), variance.shape)
    deviation: np.ndarray = np.maximum(np.sqrt(np.maximum(variance, 0.0)), MIN_DEVIATION)
    return deviation


def _log_density(odds: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Log of the normal density, without its constant."""
    density: np.ndarray = -(((odds - mean) / deviation) ** 2) / 2 - np.log(deviation)
    return density
