"""The baselines once more, as slowly and plainly as the equations are written."""

from math import exp, log, pi, sqrt

from tests.ecan_core.adaptation.losses.twins import dot, nearest


def cross_entropy(scores, labels):
    return -sum(log(row[label]) for row, label in zip(scores, labels, strict=True)) / len(scores)


def cosine(left, right):
    return dot(left, right) / sqrt(dot(left, left) * dot(right, right))


def largest(values):
    return max(range(len(values)), key=lambda c: values[c])


def centroid_labels(embeddings, scores):
    """SHOT: means weighted by scores, then means over the labels; nearest by cosine with a 1 appended."""
    extended = [[x / sqrt(dot(row, row) + 1.0) for x in [*row, 1.0]] for row in embeddings]
    labels = [largest(row) for row in scores]
    weights = scores
    for _ in range(2):
        centroids = {}
        for c in sorted(set(labels)):
            mass = sum(row[c] for row in weights)
            centroids[c] = [
                sum(weight[c] * row[d] for weight, row in zip(weights, extended, strict=True)) / mass
                for d in range(len(extended[0]))
            ]
        labels = [max(centroids, key=lambda c: cosine(row, centroids[c])) for row in extended]
        weights = [[float(c == label) for c in range(len(scores[0]))] for label in labels]
    return labels


def nrc(scores, embeddings, rows, bank, bank_scores, k):
    total = 0.0
    for i, row in enumerate(rows):
        for near in nearest(embeddings[i], row, bank, k):
            theirs = nearest(bank[near], near, bank, k)
            total -= (1.0 if row in theirs else 0.1) * dot(scores[i], bank_scores[near])
            total -= 0.1 * sum(dot(scores[i], bank_scores[m]) for m in theirs)
    return total / len(rows)


def view(scores, noisy_scores):
    total = 0.0
    for clean, noisy in zip(scores, noisy_scores, strict=True):
        total -= sum((0.9 * p + 0.1 / len(clean)) * log(q) for p, q in zip(clean, noisy, strict=True))
    return total / len(scores)


def label_set(scores, candidates, ambiguous):
    losses = []
    for row, marks, counts in zip(scores, candidates, ambiguous, strict=True):
        if counts:
            chosen = [p for p, mark in zip(row, marks, strict=True) if mark]
            losses.append(-sum(log(p) for p in chosen) / len(chosen))
    return sum(losses) / len(losses) if losses else 0.0


def positive(scores, threshold):
    losses = [-log(max(row)) for row in scores if max(row) >= threshold]
    return sum(losses) / len(losses) if losses else 0.0


def negative(scores, threshold):
    losses = [-log(1.0 - p) for row in scores for p in row if p <= threshold]
    return sum(losses) / len(losses) if losses else 0.0


def joint_knowledge(embeddings, scores):
    """CoWA: one round of expectation and maximization, diagonal covariances; labels and JMDS weights."""
    uniform = [[1.0] * len(scores[0]) for _ in scores]
    posterior = [[exp(x) for x in row] for row in log_posterior(embeddings, scores, uniform)]
    last = log_posterior(embeddings, posterior, posterior)
    labels = [largest(row) for row in last]
    leads = [sorted(row)[-1] - sorted(row)[-2] for row in last]
    weights = [lead / max(leads) * row[label] for lead, row, label in zip(leads, scores, labels, strict=True)]
    return labels, weights


def log_posterior(embeddings, members, spread):
    count, width, num_classes = len(embeddings), len(embeddings[0]), len(members[0])
    joint = [[0.0] * num_classes for _ in embeddings]
    for c in range(num_classes):
        mass = sum(row[c] for row in members)
        for i in range(count):
            joint[i][c] = log(mass / count)
        for d in range(width):
            mean = sum(members[i][c] * embeddings[i][d] for i in range(count)) / mass
            weighted = sum(spread[i][c] * (embeddings[i][d] - mean) ** 2 for i in range(count))
            variance = weighted / sum(row[c] for row in spread) + 1e-5
            for i in range(count):
                joint[i][c] += -0.5 * log(2 * pi * variance) - (embeddings[i][d] - mean) ** 2 / (2 * variance)
    evidence = [max(row) + log(sum(exp(x - max(row)) for x in row)) for row in joint]
    return [[x - total for x in row] for row, total in zip(joint, evidence, strict=True)]


def mixture(logits, labels, weights, partner, share):
    """CoWA's loss from the logits of the mixtures and the labels and weights of what was mixed."""
    total = 0.0
    for i, row in enumerate(logits):
        log_sum = log(sum(exp(z) for z in row))
        own, other = row[labels[i]] - log_sum, row[labels[partner[i]]] - log_sum
        weight = share[i] * weights[i] + (1.0 - share[i]) * weights[partner[i]]
        total -= weight * (share[i] * own + (1.0 - share[i]) * other)
    return total / len(logits)
