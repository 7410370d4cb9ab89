"""The losses once more, as slowly and plainly as the equations are written."""

from math import exp, log


def dot(left, right):
    return sum(a * b for a, b in zip(left, right, strict=True))


def diversity(scores):
    count, num_classes = len(scores), len(scores[0])
    means = [sum(row[c] for row in scores) / count for c in range(num_classes)]
    return sum(mean * log(mean) for mean in means if mean > 0) + log(num_classes)


def nearest(feature, row, bank, k):
    others = [j for j in range(len(bank)) if j != row]
    return sorted(others, key=lambda j: -dot(feature, bank[j]))[:k]


def ncl_1(embeddings, rows, bank, k, tau):
    total = 0.0
    for feature, row in zip(embeddings, rows, strict=True):
        everything = sum(exp(dot(feature, bank[j]) / tau) for j in range(len(bank)) if j != row)
        for j in nearest(feature, row, bank, k):
            total -= log(exp(dot(feature, bank[j]) / tau) / everything) / k
    return total / len(rows)


def ncl_2(embeddings, rows, bank, k, tau):
    total = 0.0
    for feature, row in zip(embeddings, rows, strict=True):
        everything = sum(exp(dot(feature, bank[j]) / tau) for j in range(len(bank)) if j != row)
        near = sum(exp(dot(feature, bank[j]) / tau) for j in nearest(feature, row, bank, k))
        total -= log(near / everything)
    return total / len(rows)


def ncl_3(scores, embeddings, rows, bank, bank_scores, k, dispersion):
    total = 0.0
    for i, row in enumerate(rows):
        total -= sum(dot(scores[i], bank_scores[j]) for j in nearest(embeddings[i], row, bank, k))
        total += dispersion * sum(dot(scores[i], scores[m]) for m in range(len(rows)) if m != i)
    return total / len(rows)


def ncl_4(embeddings, rows, bank, k, tau):
    total = 0.0
    for i, row in enumerate(rows):
        negatives = sum(exp(dot(embeddings[i], embeddings[m]) / tau) for m in range(len(rows)) if m != i)
        for j in nearest(embeddings[i], row, bank, k):
            positive = exp(dot(embeddings[i], bank[j]) / tau)
            total -= log(positive / (positive + negatives)) / k
    return total / len(rows)


def ncl_5(scores, embeddings, rows, bank, bank_scores, k, dispersion):
    total = 0.0
    for i, row in enumerate(rows):
        near = nearest(embeddings[i], row, bank, k)
        second = {m for j in near for m in nearest(bank[j], j, bank, k)}
        total -= sum(dot(scores[i], bank_scores[j]) for j in near)
        mean = [sum(bank_scores[j][c] for j in near) / k for c in range(len(scores[0]))]
        total += dispersion * sum(
            dot(mean, scores[m]) for m, other in enumerate(rows) if m != i and other not in second
        )
    return total / len(rows)


def scl_1(embeddings, labels, tau):
    total, anchors = 0.0, 0
    for i, label in enumerate(labels):
        others = [a for a in range(len(labels)) if a != i]
        positives = [p for p in others if labels[p] == label]
        if not positives:
            continue
        everything = sum(exp(dot(embeddings[i], embeddings[a]) / tau) for a in others)
        anchors += 1
        total -= sum(log(exp(dot(embeddings[i], embeddings[p]) / tau) / everything) for p in positives) / len(positives)
    return total / anchors if anchors else 0.0


def scl_2(embeddings, rows, labels, bank, bank_labels, tau):
    total, anchors = 0.0, 0
    for feature, row, label in zip(embeddings, rows, labels, strict=True):
        others = [j for j in range(len(bank)) if j != row]
        positives = [j for j in others if bank_labels[j] == label]
        if not positives:
            continue
        everything = sum(exp(dot(feature, bank[j]) / tau) for j in others)
        anchors += 1
        total -= sum(log(exp(dot(feature, bank[j]) / tau) / everything) for j in positives) / len(positives)
    return total / anchors if anchors else 0.0
