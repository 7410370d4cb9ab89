"""Attack single utterances: find out whether they were in the training.

All read the logits ``[K, N, C]`` of K models on N utterances, of which each model was trained on about half
(``members`` ``[K, N]``), and give scores ``[K, N]`` that are higher for likelier members. Each model is the target
once, and the others are what the attacker has trained on speech of the same kind: all but its counterpart, the model
before or after it that was trained on the other half. So a target is judged by the same references whether it was
trained on an utterance or not; were it left out alone, the sizes and means of what it is compared with would tell.
"""

import numpy as np
from scipy.special import log_softmax

POOL_BELOW = 32
"""With fewer models than this, all utterances share one variance: few confidences say little about their spread."""
MIN_DEVIATION = 1e-3


def confidences(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return log odds of the true class: ``log p_y / (1 - p_y)``.

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
    """Return minus the cross-entropy: a smoke alarm, never a gate.

    This attack has no reference and flatters a model.

    Source: Yeom et al., 2018.
    Differs: no threshold is chosen; the whole ROC curve is looked at.
    """
    log_scores: np.ndarray = log_softmax(logits.astype(np.float64), axis=-1)[..., np.arange(len(labels)), labels]
    return log_scores


def lira_scores(logits: np.ndarray, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return log likelihood ratios of an utterance's confidence.

    They compare models with and without the utterance.

    Source: LiRA, online (Carlini et al., "Membership inference attacks from first principles", 2022).
    Differs: the models that are targets are each other's references; an utterance is asked once, as it was trained
        on, for nothing is augmented in training; the variance is pooled below `POOL_BELOW` models.
    """
    return _likelihood_ratios(confidences(logits, labels), members)


def lira_scores_of(target: np.ndarray, logits: np.ndarray, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Score one more model like `lira_scores` on each utterance ``[N]``.

    It is none of the references.

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


def confidence_scores(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how far a confidence lies above the mean of the others.

    In deviations of a model's own distances. It needs no models with and without an utterance, so nothing is lost where
    the two differ by less than their spread is known by: with noise in the training it finds more than LiRA does.

    Source: our own trials on private trainings; Sablayrolles et al., "White-box vs black-box: Bayes optimal strategies
        for membership inference", 2019, judge by a loss less a threshold of each utterance's own (MATT).
    Differs: log odds take the place of the loss, and the mean over the other models that of the threshold.
    """
    odds = confidences(logits, labels)
    above = odds - _others(odds) / (len(odds) - 2)
    scores: np.ndarray = above / np.maximum(above.std(axis=1, keepdims=True), MIN_DEVIATION)
    return scores


def rmia_scores(logits: np.ndarray, labels: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return the share of outside utterances that a model has raised less.

    It compares likelihoods.

    Source: RMIA, online (Zarifzadeh et al., "Low-cost high-power membership inference attacks", 2024).
    Differs: the population is the corpus's own utterances that the model was not trained on; the factor gamma is 1, for
        any other leaves the order of scores nearly as it is. Less than a step of the share is added for the ratio
        itself, which orders those above the whole population.
    """
    scores: np.ndarray = np.exp(loss_scores(logits, labels))
    raised = scores * (len(scores) - 2) / _others(scores)
    shares: np.ndarray = np.empty(raised.shape)
    for model, ratios in enumerate(raised):
        outside = ~members[model]
        below = np.searchsorted(np.sort(ratios[outside]), ratios, side="right")
        shares[model] = (below - outside) / (outside.sum() - outside)  # nobody is compared with himself
    ordered: np.ndarray = shares + raised / (1 + raised) / raised.shape[1]
    return ordered


def _likelihood_ratios(odds: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Return log likelihood ratios ``[K, N]`` under the other models.

    They compare the figures of models with and without an utterance.
    """
    inside, outside = (_left_out(odds, chosen) for chosen in (members, ~members))
    scores: np.ndarray = _log_density(odds, *inside) - _log_density(odds, *outside)
    return scores


def _left_out(odds: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation ``[K, N]`` over the chosen models.

    The model itself and its counterpart are left out.
    """
    count = len(odds) // 2 - 1
    mean = _others(np.where(chosen, odds, 0.0)) / count
    variance = (_others(np.where(chosen, odds**2, 0.0)) / count - mean**2) * count / (count - 1)
    return mean, _deviation(variance, len(odds))


def _others(values: np.ndarray) -> np.ndarray:
    """Sum ``[K, N]`` over all models but each one and its counterpart."""
    pairs = values.reshape(-1, 2, values.shape[1]).sum(axis=1)
    return np.repeat(values.sum(axis=0) - pairs, 2, axis=0)


def _moments(odds: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation ``[N]`` over the chosen models."""
    known = np.where(chosen, odds, np.nan)
    mean: np.ndarray = np.nanmean(known, axis=0)
    return mean, _deviation(np.nanvar(known, axis=0, ddof=1), len(odds))


def _deviation(variance: np.ndarray, num_models: int) -> np.ndarray:
    if num_models < POOL_BELOW:
        variance = np.broadcast_to(variance.mean(axis=-1, keepdims=True), variance.shape)
    deviation: np.ndarray = np.maximum(np.sqrt(np.maximum(variance, 0.0)), MIN_DEVIATION)
    return deviation


def _log_density(odds: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return the log of the normal density, without its constant."""
    density: np.ndarray = -(((odds - mean) / deviation) ** 2) / 2 - np.log(deviation)
    return density


def label_only_scores(hits: np.ndarray, members: np.ndarray, num_copies: int) -> np.ndarray:
    """Return LiRA's ratio of how often a model is right under noise.

    It reads labels and no scores.

    Source: label-only attacks (Choquette-Choo et al., 2021): how far an utterance lies from the decision boundary.
    Differs: noise on the normalized inputs takes the place of boundary search, and the share of hits is compared with
        that of models with and without the utterance, which makes the attack stronger.

    Args:
        hits: noisy copies that were named right ``[K, N]``.
        members: which model was trained on which utterance ``[K, N]``.
        num_copies: noisy copies of each utterance.
    """
    return _likelihood_ratios(np.log((hits + 0.5) / (num_copies - hits + 0.5)), members)


def quantile_scores(
    logits: np.ndarray, labels: np.ndarray, members: np.ndarray, vectors: np.ndarray, *, seed: int = 0
) -> np.ndarray:
    """Return how far a confidence lies above that of a non-member.

    The latter is what a regression expects of an utterance that was not trained on.

    The attacker trains no network; he fits a normal distribution, given the input, to half of the utterances that a
    model was not trained on. Those he has used get NaN.

    Source: quantile regression (Bertran et al., "Scalable membership inference attacks via quantile regression",
        2023), in the form that predicts mean and deviation.
    Differs: ridge regression, whose penalty is one variance of noise per dimension, for there are a few hundred
        utterances.

    Args:
        logits: ``[K, N, C]``.
        labels: class indices ``[N]``.
        members: which model was trained on which utterance ``[K, N]``.
        vectors: an utterance's input as one vector ``[N, V]``.
        seed: seed of the halves.
    """
    odds = confidences(logits, labels)
    known = np.hstack([vectors, np.sqrt(vectors.shape[1]) * np.eye(logits.shape[-1])[labels]])
    alike = known @ known.T / known.shape[1]
    scores: np.ndarray = np.full(odds.shape, np.nan)
    random = np.random.default_rng(seed)
    for model, own in enumerate(odds):
        outside = random.permutation(np.flatnonzero(~members[model]))
        fitted = outside[: len(outside) // 2]
        inner = alike[np.ix_(fitted, fitted)]
        mean, residual = _ridge(inner, alike[:, fitted], own[fitted])
        spread, _ = _ridge(inner, alike[:, fitted], np.log(np.abs(residual) + MIN_DEVIATION))
        scores[model] = (own - mean) / np.exp(spread)
        scores[model, fitted] = np.nan
    return scores


def atypical(logits: np.ndarray, labels: np.ndarray, *, share: float = 0.05) -> np.ndarray:
    """Return the utterances that pull hardest at all models together.

    They are returned as indices, at least one.

    They are those with the largest gradient of the loss with respect to the logits, ``|p - y|``. Which model was
    trained on which is not looked at: a choice by what models without an utterance say would itself be a finding.
    """
    scores = np.exp(log_softmax(logits.astype(np.float64), axis=-1))
    pull = np.linalg.norm(scores - np.eye(logits.shape[-1])[labels], axis=-1).mean(axis=0)
    rows: np.ndarray = np.sort(np.argsort(-pull, kind="stable")[: max(1, round(share * len(labels)))])
    return rows


def _ridge(inner: np.ndarray, outer: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predict all by ridge regression, and each fitted one by the others.

    Returns the predictions and what is left of the fitted ones.
    """
    center = wanted.mean()
    inverse = np.linalg.inv(inner + np.eye(len(inner)))
    weights = inverse @ (wanted - center)
    return center + outer @ weights, weights / np.diagonal(inverse)
