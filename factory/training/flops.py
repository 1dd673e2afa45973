"""What a training run costs in floating-point operations, by formula, so that figures of different machines compare."""

from factory.training.scales import Scale


def simple_flops(scale: Scale, vocabulary: int, tokens: int) -> float:
    """6·N·D with N all parameters: the convention of DCLM's table (2406.11794)."""
    return 6.0 * scale.parameters(vocabulary).total * tokens


def exact_flops(scale: Scale, vocabulary: int, tokens: int) -> float:
    """Forward and backward of every matrix product, the output head included, attention counted causally (2204.02311).

    Per token 6 (non-embedding + head) + 6·layers·width·context.
    """
    blocks = scale.parameters(vocabulary).non_embedding
    head = scale.rows(vocabulary) * scale.width
    return tokens * (6.0 * (blocks + head) + 6.0 * scale.layers * scale.width * scale.context)
