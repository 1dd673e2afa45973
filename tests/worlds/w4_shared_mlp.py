"""W4, not convex: a next-symbol model (embedding 24, two hidden layers of 64, GELU) on Markov chains, by AdamW.

Merging needs it: a bigram table is convex, so that any average of any tables is a good one. Many models are trained side by
side, as one stack of tensors; only 24 inputs exist, so a step is a pass over all of them, weighed by what was drawn.
"""

import numpy as np
import torch

VOCABULARY = 24
HIDDEN = 64
DRAWS = 64


def make_partitions(seed, count, bases):
    """Partitions as mixtures of base chains."""
    random = np.random.default_rng(seed)
    return np.tensordot(random.dirichlet(np.full(len(bases), 0.5), count), np.stack(bases), 1)


def initial(seeds):
    """A stack of models, one for each seed."""
    shapes = [(VOCABULARY, VOCABULARY), (VOCABULARY, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, VOCABULARY)]
    stacks = []
    for place, shape in enumerate(shapes):
        drawn = [np.random.default_rng([seed, place]).normal(0.0, shape[0] ** -0.5, shape) for seed in seeds]
        stacks.append(torch.tensor(np.stack(drawn), dtype=torch.float32))
    return stacks


def logits(stack):
    embedding, first, second, head = stack
    return torch.nn.functional.gelu(torch.nn.functional.gelu(embedding @ first) @ second) @ head


def train(start, chains, *, steps, rate, seed):
    """A model for each chain (transition matrices) from the models at `start` (one for all, or one each)."""
    random = np.random.default_rng(seed)
    count = len(chains)
    stack = [part.expand(count, *part.shape[1:]).clone().requires_grad_() for part in start]
    optimizer = torch.optim.AdamW(stack, lr=rate, weight_decay=0.01, foreach=True)
    for _ in range(steps):
        states = random.multinomial(DRAWS, np.full(VOCABULARY, 1 / VOCABULARY), count)
        drawn = torch.tensor(random.multinomial(states, chains) / DRAWS, dtype=torch.float32)
        loss = -(drawn * logits(stack).log_softmax(-1)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [part.detach() for part in stack]


def average(stack, members):
    return [part[list(members)].mean(0, keepdim=True) for part in stack]


def losses(stack, chain):
    """The loss of each model against a chain, its states equally likely."""
    table = torch.tensor(chain, dtype=torch.float32)
    return (-(table * logits(stack).log_softmax(-1)).sum(-1).mean(-1)).numpy()
