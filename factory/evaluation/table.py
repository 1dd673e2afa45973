"""The rows an evaluation leaves: one for every item, with what is needed to average, compare and look again.

A task's score is the mean over its domains of the weighted mean of `value`: for bits per byte, weights are UTF-8 bytes, so
that a domain's score is its nats over its bytes; for accuracy they are 1. Models kept on the way of a training leave the same
rows, with the step they were trained for.
"""

import pyarrow as pa

EVALUATION = pa.schema(
    [
        pa.field("task", pa.string(), nullable=False),  # label in the recipe
        pa.field("task_digest", pa.string(), nullable=False),  # settings and files: equal means the same questions
        pa.field("metric", pa.string(), nullable=False),  # name@version, see tasks.HIGHER_IS_BETTER
        pa.field("domain", pa.string(), nullable=False),
        pa.field("item", pa.string(), nullable=False),  # file:line, lines counted from 0; once in a task
        pa.field("value", pa.float64()),  # null when the model gave no finite number
        pa.field("weight", pa.float64(), nullable=False),
        pa.field("gold", pa.int32()),
        pa.field("predicted", pa.int32()),
        pa.field("tied", pa.bool_()),  # several choices were best; the first of them counts
        pa.field("baseline", pa.float64()),  # what guessing gives: 1/k
        pa.field("nats", pa.float64()),  # -ln p of the document, or of the right choice
        pa.field("bytes", pa.int64(), nullable=False),  # of that text
        pa.field("tokens", pa.int64(), nullable=False),
        pa.field("bpb_gold", pa.float64()),  # nats / (ln 2 · bytes)
        pa.field("correct_prob", pa.float64()),  # p of the right choice, p_j = exp(ln p / length) in the task's lengths
        pa.field("total_prob", pa.float64()),  # Σ p_j
        pa.field("norm_prob", pa.float64()),  # p of the right choice / Σ p_j
        pa.field("margin", pa.float64()),  # p of the right choice - the best wrong one
        pa.field("choice_nats", pa.list_(pa.float64())),  # of every choice, so that any other normalisation can follow
        pa.field("truncated", pa.bool_(), nullable=False),  # context was cut from the left
        # With choice_nats, what any normalisation needs (`multiple_choice.renormalize`): lengths of each choice as measured,
        # and its -ln p without the question, where that was asked.
        pa.field("choice_chars", pa.list_(pa.int32())),
        pa.field("choice_bytes", pa.list_(pa.int32())),
        pa.field("choice_tokens", pa.list_(pa.int32())),
        pa.field("choice_alone_nats", pa.list_(pa.float64())),
        pa.field("formulation", pa.string()),  # cloze or letters
        pa.field("group", pa.string()),  # what the task compares within itself: a label, a period, a bin of counts
        pa.field(
            "passage", pa.string()
        ),  # what several items ask about: they are drawn together where noise is estimated
        pa.field("extra", pa.map_(pa.string(), pa.float64())),  # other numbers of the item, by name
    ]
)

CURVE = EVALUATION.append(pa.field("step", pa.int64(), nullable=False)).append(
    pa.field("tokens_seen", pa.int64(), nullable=False)
)
