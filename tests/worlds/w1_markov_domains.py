"""Six domains made of four Markov chains, where a proxy is a bigram table and the best mixture is known.

A proxy "trains" on n transitions drawn with the mixture's shares and smooths their counts; its loss is the cross-entropy of
the target chain, weighted by its stationary distribution. Without sampling the loss has a closed form (`true_loss`), so the
optimum is found by L-BFGS. References are computed here and never assumed: compare gaps as fractions of natural - optimum.
"""

from dataclasses import dataclass

import numpy as np

SYMBOLS = 32
CHAINS_OF = np.array([[1, 0, 0, 0], [0.7, 0.3, 0, 0], [0, 1, 0, 0], [0, 0.2, 0.8, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
TARGET = np.array([0.2, 0, 0.5, 0, 0.3, 0])
NATURAL = np.array([0.4, 0.25, 0.05, 0.15, 0.05, 0.1])
SMOOTHING = 0.05


@dataclass(frozen=True, eq=False)
class MarkovDomains:
    joints: np.ndarray  # domain, from, to: how often a transition occurs in it
    target: np.ndarray  # from, to: the same of the target

    @property
    def natural(self):
        return NATURAL

    @property
    def domains(self):
        return len(self.joints)

    @property
    def entropy(self):
        """What no model is better than."""
        rows = self.target / self.target.sum(axis=1, keepdims=True)
        return float(-(self.target * np.log(np.maximum(rows, 1e-300))).sum())

    def true_loss(self, shares):
        """The loss of a model that saw infinitely many transitions."""
        joint = np.tensordot(np.asarray(shares, float), self.joints, 1)
        rows = joint / np.maximum(joint.sum(axis=1, keepdims=True), 1e-300)
        return float(-(self.target * np.log(np.maximum(rows, 1e-12))).sum())

    def train(self, shares, transitions, generator):
        """The measured loss of one proxy."""
        joint = np.tensordot(np.asarray(shares, float), self.joints, 1).ravel()
        counts = generator.multinomial(transitions, joint / joint.sum()).reshape(SYMBOLS, SYMBOLS) + SMOOTHING
        return float(-(self.target * np.log(counts / counts.sum(axis=1, keepdims=True))).sum())

    def train_all(self, mixtures, transitions, seed):
        generator = np.random.default_rng(seed)
        return np.array([self.train(shares, transitions, generator) for shares in mixtures])

    def optimum(self):
        """The best mixture and its loss."""
        from scipy.optimize import minimize

        def loss(logits):
            shares = np.exp(logits - logits.max())
            return self.true_loss(shares / shares.sum())

        starts = [np.zeros(self.domains), np.log(NATURAL), np.log(TARGET + 0.01)]
        best = min((minimize(loss, start, method="L-BFGS-B") for start in starts), key=lambda found: found.fun)
        shares = np.exp(best.x - best.x.max())
        return shares / shares.sum(), float(best.fun)

    def distance(self, loss, optimum):
        """0 at the optimum's loss, 1 at natural's."""
        return (loss - optimum) / (self.true_loss(NATURAL) - optimum)


def markov_domains(seed=0):
    generator = np.random.default_rng(seed)
    chains = generator.dirichlet(np.full(SYMBOLS, 0.1), size=(4, SYMBOLS))
    rows = np.tensordot(CHAINS_OF, chains, 1)
    target = np.tensordot(TARGET, rows, 1)
    return MarkovDomains(np.stack([_joint(row) for row in rows]), _joint(target))


def _joint(rows):
    values, vectors = np.linalg.eig(rows.T)
    stationary = np.abs(np.real(vectors[:, np.argmax(np.real(values))]))
    return (stationary / stationary.sum())[:, None] * rows
