"""DCLM's CORE and EXTENDED: means of centred accuracies, (acc - b) / (1 - b), over fixed lists of tasks (arXiv 2406.11794).

In: accuracies by DCLM's names of tasks. Out: the aggregates of a version. What holds: a task that is missing makes the
aggregate None and is named, never a mean over fewer; versions are never compared, since version 2 (September 2025) corrected
the baselines; a baseline belongs to a task *file*, so a file whose guessing is another is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from factory.core.errors import InputError, suggest
from factory.evaluation.few_shot import with_drawn
from factory.evaluation.forms import Item, find_form, read_item
from factory.evaluation.records import Record, chosen, records, value_of
from factory.evaluation.tasks import Core, MultipleChoice, Normalization

Version = Literal["v1", "v2"]
CURRENT: Version = "v2"
ANSWER = "\nAnswer: "


@dataclass(frozen=True)
class Asked:
    """How DCLM asks a task: examples, what stands between question and answer, what guessing gives, and its kind."""

    shots: int
    baseline: float
    delimiter: str = " "
    kind: Literal["choice", "schema", "continuation", "generation"] = "choice"


def _same(names: str, asked: Asked) -> dict[str, Asked]:
    return dict.fromkeys(names.split(), asked)


# eval/heavy.yaml and eval/eval_meta_data.csv of mlfoundations/dclm (361714bd): 53 tasks.
TASKS: Mapping[str, Asked] = {
    **_same("mmlu_zeroshot", Asked(0, 0.25, "Answer: ")),
    **_same("mmlu_fewshot gpqa_main gpqa_diamond", Asked(5, 0.25, ANSWER)),
    **_same("arc_easy arc_challenge logi_qa", Asked(10, 0.25, ANSWER)),
    **_same("hellaswag_zeroshot openbook_qa", Asked(0, 0.25)),
    **_same("copa", Asked(0, 0.5)),
    **_same("piqa", Asked(10, 0.5, ANSWER)),
    **_same("boolq", Asked(10, 0.62, ANSWER)),
    **_same("commonsense_qa", Asked(10, 0.403)),
    **_same("math_qa", Asked(10, 0.2)),
    **_same("bigbench_conceptual_combinations", Asked(10, 0.33)),
    **_same(
        "hellaswag bigbench_novel_concepts bigbench_language_identification bigbench_elementary_math_qa "
        "bigbench_logical_deduction bigbench_understanding_fables",
        Asked(10, 0.25),
    ),
    **_same(
        "bigbench_misconceptions siqa bigbench_strange_stories bigbench_strategy_qa winogender_mc_female "
        "winogender_mc_male enterprise_pii_classification",
        Asked(10, 0.5),
    ),
    **_same("bbq", Asked(3, 0.5)),
    **_same("agi_eval_lsat_ar agi_eval_lsat_rc agi_eval_lsat_lr agi_eval_sat_en", Asked(3, 0.25)),
    **_same("winograd winogrande", Asked(0, 0.5, kind="schema")),
    **_same("jeopardy", Asked(10, 0.0, ANSWER, "continuation")),
    **_same("lambada_openai coqa bigbench_conlang_translation", Asked(0, 0.0, kind="continuation")),
    **_same(
        "bigbench_qa_wikidata bigbench_dyck_languages bigbench_cs_algorithms bigbench_operators squad pubmed_qa_labeled "
        "bigbench_repeat_copy_logic simple_arithmetic_nospaces simple_arithmetic_withspaces",
        Asked(10, 0.0, kind="continuation"),
    ),
    **_same("triviaqa_sm_sub", Asked(3, 0.0, kind="generation")),
    **_same(
        "gsm8k_cot agi_eval_sat_math_cot aqua_cot", Asked(3, 0.0, "\nA: Let's think step by step. ", kind="generation")
    ),
    **_same("svamp_cot", Asked(3, 0.0, "\nUsing the formula below:\n", kind="generation")),
}

CORE = (
    "hellaswag_zeroshot", "jeopardy", "bigbench_qa_wikidata", "arc_easy", "arc_challenge", "copa", "commonsense_qa", "piqa",
    "openbook_qa", "lambada_openai", "hellaswag", "winograd", "winogrande", "bigbench_dyck_languages", "agi_eval_lsat_ar",
    "bigbench_cs_algorithms", "bigbench_operators", "bigbench_repeat_copy_logic", "squad", "coqa", "boolq",
    "bigbench_language_identification",
)  # fmt: skip
SMALL = ("hellaswag_zeroshot", "arc_easy", "arc_challenge", "copa", "winogrande", "boolq")  # rw_small of DCLM
AGGREGATES: Mapping[str, tuple[str, ...]] = {"core": CORE, "extended": tuple(TASKS), "small": SMALL}

# What version 1 had instead (eval_meta_data_v1.csv).
_FIRST: Mapping[str, float] = {
    "siqa": 0.333, "commonsense_qa": 0.2, "bigbench_novel_concepts": 0.2, "bigbench_language_identification": 0.091,
    "bigbench_conceptual_combinations": 0.25, "bigbench_elementary_math_qa": 0.2, "agi_eval_lsat_ar": 0.2,
    "agi_eval_lsat_rc": 0.2, "agi_eval_lsat_lr": 0.2, "bigbench_logical_deduction": 0.2, "logi_qa": 0.27,
    "bigbench_understanding_fables": 0.2,
}  # fmt: skip

# Baselines that are no 1/k: the commonest answer, or what DCLM measured.
_NOT_GUESSING = ("boolq", "commonsense_qa", "bigbench_conceptual_combinations")
_CLOSE = 0.02


@dataclass(frozen=True)
class Aggregate:
    """A mean of centred accuracies; None where tasks are missing."""

    name: str
    value: float | None
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.value:.4f}" if self.value is not None else f"N/A, {len(self.missing)} tasks are missing"


def baseline(task: str, version: Version = CURRENT) -> float:
    """What guessing gives on DCLM's file of a task."""
    if task not in TASKS:
        raise InputError(f"core: DCLM has no task '{task}'.{suggest(task, TASKS)}")
    return _FIRST.get(task, TASKS[task].baseline) if version == "v1" else TASKS[task].baseline


def centred(accuracy: float, guessing: float) -> float:
    """0 where a model guesses, 1 where it knows, below 0 where it is worse than guessing."""
    return (accuracy - guessing) / (1 - guessing)


def aggregate(accuracies: Mapping[str, float | None], which: str = "core", version: Version = CURRENT) -> Aggregate:
    """CORE, EXTENDED or the small subset of a version from raw accuracies."""
    if which not in AGGREGATES:
        raise InputError(f"core: no aggregate is named '{which}'.{suggest(which, AGGREGATES)}")
    names = AGGREGATES[which]
    found = {name: accuracies.get(name) for name in names}
    missing = tuple(name for name, accuracy in found.items() if accuracy is None)
    parts = [centred(accuracy, baseline(name, version)) for name, accuracy in found.items() if accuracy is not None]
    return Aggregate(f"{which}@{version}", None if missing else sum(parts) / len(parts), missing)


# --- items


def task_name(config: Core, files: Mapping[str, bytes]) -> str:
    """DCLM's name of a task: as set, else that of its file."""
    stems = {name.rpartition("/")[2].split(".")[0] for name in files}
    name = config.task or (stems.pop() if len(stems) == 1 else "")
    if name not in TASKS:
        raise InputError(
            f"core: '{name or ', '.join(sorted(files))}' is no task of DCLM: name it.{suggest(name, TASKS)}"
        )
    return name


def read_core(config: Core, files: Mapping[str, bytes]) -> tuple[list[Item], Normalization]:
    """The items of a task after DCLM's examples. Choices are compared per token, as llm-foundry does."""
    name = task_name(config, files)
    asked = TASKS[name]
    items = [
        _item(asked, record, item=f"{file}:{number}", place=f"{file}, line {number} (from 0)")
        for file in sorted(files)
        for number, record in records(file, files[file])
    ]
    if not items:
        raise InputError(f"evaluate: no item in {', '.join(sorted(files))}.")
    _check_guessing(name, items)
    kept = [items[at] for at in chosen([item.id for item in items], config.limit)]
    count = asked.shots if config.few_shot is None else config.few_shot
    if count:
        kept = with_drawn(kept, items, count, "\n", config.shot_seed)
    return kept, "token"


def is_standard(config: Core, name: str) -> bool:
    """Whether a task counts for the aggregates: all items, as many examples as DCLM shows."""
    return config.limit is None and config.few_shot in (None, TASKS[name].shots)


_FORMS = {"choice": "multiple_choice", "schema": "schema", "continuation": "language_modeling"}
_PLAIN = MultipleChoice(uri="", prompt="as_is")


def _item(asked: Asked, record: Record, *, item: str, place: str) -> Item:
    form = _FORMS[asked.kind]
    if form == "multiple_choice" and "query" not in record:
        form = find_form(_PLAIN, record, place)  # the form of the data set itself, where the file is not llm-foundry's
    found = read_item(form, _PLAIN, record, item=item, place=place)
    # llm-foundry strips what a record holds, and a delimiter's last space goes with the answer.
    delimiter = asked.delimiter.rstrip(" ") if asked.kind != "schema" else ""
    contexts = [context.strip() for context in found.contexts]
    if delimiter:
        contexts = [context.removesuffix("Answer:").rstrip() + delimiter for context in contexts]
    domain = str(value_of(record, "category", place)) if record.get("category") else found.domain
    endings = tuple(f" {text.strip()}" for text in found.continuations)
    return Item(item, domain, tuple(contexts), endings, found.gold, passage=found.passage)


def _check_guessing(name: str, items: list[Item]) -> None:
    several = [len(item.continuations) for item in items if len(item.continuations) > 1]
    if not several or name in _NOT_GUESSING:
        return
    guessing = sum(1 / count for count in several) / len(several)
    if abs(guessing - baseline(name)) > _CLOSE:
        raise InputError(
            f"core: '{name}' of DCLM is guessed with {baseline(name):.3f}, and these items, which have "
            f"{min(several)} to {max(several)} choices, with {guessing:.3f}: they are another file's. Use DCLM's, or score "
            "them with `use: multiple_choice`."
        )


def derived(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The aggregates of a table's tasks: `scores` has, by DCLM's name, `accuracy` and whether the task is `standard`."""
    counted = {name: found["accuracy"] for name, found in scores.items() if found["standard"]}
    made: dict[str, Any] = {}
    for which in AGGREGATES:
        one = aggregate(counted, which)
        made[one.name] = {"value": one.value, "missing": list(one.missing)}
    return made
