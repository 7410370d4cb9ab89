"""Random embeddings, scores and banks, in double precision."""

import torch
from torch.nn import functional

from ecan_core.adaptation.banks import MemoryBanks

N, B, D, C, K = 23, 9, 6, 4, 3


def features_and_scores(count, seed, *, sharpness=1.0):
    draw = torch.Generator().manual_seed(seed)
    embeddings = functional.normalize(torch.randn(count, D, generator=draw, dtype=torch.float64), dim=1)
    logits = sharpness * torch.randn(count, C, generator=draw, dtype=torch.float64)
    return embeddings, logits.softmax(dim=1)


def batch_with_banks(seed):
    """Rows, embeddings and scores of a mini-batch, and banks that already hold it."""
    rows = torch.randperm(N, generator=torch.Generator().manual_seed(seed))[:B]
    embeddings, scores = features_and_scores(B, seed + 100)
    bank_embeddings, bank_scores = features_and_scores(N, seed + 200)
    banks = MemoryBanks(embeddings=bank_embeddings, scores=bank_scores)
    banks.update(rows, embeddings, scores)
    return rows, embeddings.requires_grad_(), scores.requires_grad_(), banks
