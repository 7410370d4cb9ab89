"""AdaBN, T3A, LAME and the loss of TENT once more, as slowly and plainly as they are defined."""

from math import erf, exp, log, sqrt

from tests.ecan_core.adaptation.losses.twins import dot, nearest


def entropy(row):
    return -sum(p * log(p) for p in row if p > 0)


def moments(rows):
    """AdaBN: mean and deviation of every column."""
    columns = list(zip(*rows, strict=True))
    means = [sum(column) / len(column) for column in columns]
    pairs = zip(columns, means, strict=True)
    return means, [sqrt(sum((x - mean) ** 2 for x in column) / len(column)) for column, mean in pairs]


def t3a_rows(supports, scores, classes, num_classes, most):
    """T3A: for each class the sum of its supports with the lowest entropy."""
    sums = []
    for c in range(num_classes):
        members = sorted((m for m in range(len(supports)) if classes[m] == c), key=lambda m: entropy(scores[m]))
        sums.append([sum(supports[m][d] for m in members[:most]) for d in range(len(supports[0]))])
    return sums


def affinity(embeddings, k):
    """LAME: the mean of "j is a neighbor of i" and "i is a neighbor of j"."""
    near = [nearest(feature, i, embeddings, k) for i, feature in enumerate(embeddings)]
    every = range(len(embeddings))
    return [[((j in near[i]) + (i in near[j])) / 2 for j in every] for i in every]


def lame(scores, embeddings, k, steps=300):
    """LAME: ``Y <- softmax(log p + W Y)``, far beyond convergence."""
    weights = affinity(embeddings, k)
    num_classes = len(scores[0])
    assigned = scores
    for _ in range(steps):
        after = []
        for i, row in enumerate(scores):
            pull = [
                sum(w * other[c] for w, other in zip(weights[i], assigned, strict=True)) for c in range(num_classes)
            ]
            raised = [row[c] * exp(pull[c]) for c in range(num_classes)]
            after.append([value / sum(raised) for value in raised])
        assigned = after
    return assigned


def network_scores(arrays, inputs, length):
    """The default network by hand: linear, GELU, linear, unit length, cosine head, softmax."""
    rows = []
    for x in inputs:
        hidden = arrays["encoder.0.weight"] @ x + arrays["encoder.0.bias"]
        hidden = [0.5 * h * (1.0 + erf(h / sqrt(2.0))) for h in hidden]
        feature = arrays["bottleneck.weight"] @ hidden + arrays["bottleneck.bias"]
        feature = feature / sqrt(dot(feature, feature))
        logits = arrays["head.weight"] @ feature + arrays["head.bias"]
        raised = [exp(z) for z in logits]
        rows.append([value / sum(raised) for value in raised])
    assert all(abs(sqrt(dot(row, row)) - length) < 1e-4 for row in arrays["head.weight"])
    return rows


def mean_entropy(arrays, inputs, length):
    """TENT: what is minimized."""
    scores = network_scores(arrays, inputs, length)
    return sum(entropy(row) for row in scores) / len(scores)
