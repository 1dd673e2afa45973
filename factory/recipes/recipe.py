"""The recipe: what a person asks for, as frozen values. Nothing here says where or how fast it runs."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from factory.core.config import Config
from factory.core.links import LINK_COLUMNS
from factory.core.stage import Stage
from factory.evaluation.tasks import TaskSettings
from factory.stages.mixers.searched import Searched

FROM = "experiment:"  # what a proxy goes on from, where that is another experiment's


class Settings(BaseModel):
    """Base of the recipe's own sections."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Use(Settings):
    """A stage of the catalogue with its checked settings, under the label the recipe gives it."""

    label: str
    stage: Stage
    config: Config

    @property
    def identity(self) -> dict[str, Any]:
        """What of it decides the output: goes into the fingerprint, without the label."""
        packages = self.stage.packages_for(self.config)
        return {
            "stage": self.stage.name,
            "version": self.stage.version,
            "settings": self.config.model_dump(mode="json"),
            **({"packages": packages} if packages else {}),
        }

    @property
    def columns(self) -> dict[str, Any]:
        """The columns it makes, as the recipe calls them, with their types."""
        return {f"{self.label}_{name}": kind for name, kind in self.stage.writes_for(self.config).items()}


class SourceUse(Use):
    """A source: files at `uri` (a path or glob, relative to the recipe), and which snapshot each belongs to.

    `snapshot` is a name, or a template: {parent} is the file's folder, {stem} its name without endings, {crawl} the label
    CC-MAIN-YYYY-WW in its path, {dataset} and {revision} those of a data set. With `base`, `uri` is a file that lists
    paths below it, a line each; of those every `every`-th (by hash), and at most `limit_files` (by hash) are read.
    """

    uri: str
    snapshot: str
    part_bytes: int
    base: str | None = None
    every: int = 1
    limit_files: int | None = None


class Rule(Use):
    """One verdict: a filter with the columns it reads resolved to columns of this recipe, and where the rule comes from."""

    reads: tuple[str, ...]
    source: str = ""


class LinkerUse(Use):
    """A linker: which snapshots are linked with each other, and who stands for a cluster.

    `incremental`: a snapshot against itself and earlier ones, whose verdicts stay; `snapshot`: only itself; `global`: all.
    `keep` elects the member others are duplicates of: the `first` (earliest snapshot, then smallest doc_id), the `newest`
    by date, or `best:COLUMN`, the one with the highest value of a scorer's column; under `incremental` a member of an
    earlier snapshot always stands. It is a setting of linkers that elect documents (`documents`). Documents that do not pass
    every rule of `after` are linked with nothing: no document gives way to one that is dropped itself.
    """

    scope: Literal["incremental", "snapshot", "global"] = "incremental"
    keep: str = "first"
    after: tuple[Rule, ...] = ()

    @field_validator("keep")
    @classmethod
    def _is_a_policy(cls, keep: str) -> str:
        if not re.fullmatch(r"first|newest|best:[a-z][a-z0-9_]{0,80}", keep):
            raise ValueError("first, newest or best:COLUMN is meant")
        return keep

    @property
    def best(self) -> str | None:
        """The column whose highest value stands, where there is one."""
        return self.keep.removeprefix("best:") if self.keep.startswith("best:") else None

    @property
    def columns(self) -> dict[str, Any]:
        """The columns its links have, as the recipe calls them, with their types."""
        return {f"{self.label}_{name}": kind for name, kind in LINK_COLUMNS[self.stage.links].items()}


class Tokenizer(Settings):
    """Without `path`, a byte-level BPE of `vocab_size` from `documents` of the crawl; else a ready one.

    `path` is a tokenizer.json, a folder with one, or a URL with the sha256 of its file. What it calls BOS and EOS says its
    tokenizer_config.json, unless `bos_token` and `eos_token` do.
    """

    vocab_size: int = Field(default=32_000, ge=257, le=1_000_000)
    documents: int = Field(default=20_000, ge=1)
    path: str | None = None
    sha256: str | None = None
    bos_token: str | None = None
    eos_token: str | None = None
    bos: bool = False
    eos: bool = True


class Selection(Use):
    """How often each kept document is taken, by the columns it reads; what it learns, it learns from all snapshots."""

    reads: tuple[str, ...]


class Mixture(Use):
    """How many epochs of each domain a training sees; `by` is the column whose values are the domains.

    Of several columns, the values are joined: source/topic. Where a domain is not read whole, `best_first` takes its
    documents by the falling values of a column, in place of by hash.
    """

    by: tuple[str, ...] = ("source",)
    best_first: str | None = None

    @property
    def search(self) -> str | None:
        """The search whose finding it is, where it is one."""
        return self.config.search if isinstance(self.config, Searched) else None


class Phase(Settings):
    """A stretch of a training, as a share of its tokens, with a mixture of its own."""

    label: str
    share: float
    mixture: Mixture
    conditioned: bool | None = None  # whether documents have their metadata before them; None: as `conditioning` says


class Conditioning(Settings):
    """Metadata before each text, in the first `share` of the training; it is read, and never predicted (2501.01956)."""

    column: str
    share: float = Field(default=0.9, gt=0, le=1)
    template: str = "{value}\n\n"

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, template: str) -> str:
        if template.count("{value}") != 1 or "{" in template.replace("{value}", "") or len(template) > 200:
            raise ValueError("a text of at most 200 characters with {value} once, and no other braces, is meant")
        return template


class MachineOptions(Settings):
    """How proxies are computed: faster, or in less memory. Sums may end in another last bit; none is part of an identity."""

    recompute: bool = False  # blocks are computed again on the way back, instead of kept
    compile: bool = False
    micro_batch: int | None = Field(default=None, ge=1)  # sequences computed at once
    peak_flops: float | None = Field(default=None, gt=0, allow_inf_nan=False)  # of one device, where it is not known


class Proxy(Settings):
    """The models that judge the data: a scale, how many seeds, and what may be changed about the scale.

    `init` is a checkpoint in Hugging Face layout to go on from (a path), or `experiment:LABEL`, whose proxy of the same seed
    is meant. `average` checkpoints at the end are averaged. `usd_per_hour` is what a machine costs; it changes no result.
    `checkpoints` models of each training are kept and evaluated, evenly spaced over its steps; the last is the finished one.
    With `redraw`, every seed draws the documents of its domains anew, so that the spread over seeds contains their luck.
    """

    scale: str = "nano"
    seeds: int = Field(default=3, ge=1, le=100)
    overrides: Mapping[str, float | int | str] = Field(default_factory=dict)
    init: str | None = Field(default=None, min_length=1)
    average: int = Field(default=1, ge=1, le=100)
    checkpoints: int = Field(default=1, ge=1, le=100)
    redraw: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"
    processes: int = Field(default=1, ge=1, le=1024)
    usd_per_hour: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    machine: MachineOptions = MachineOptions()

    @model_validator(mode="after")
    def _joins_like_with_like(self) -> "Proxy":
        if self.checkpoints > 1 and self.average > 1:
            raise ValueError(
                "checkpoints with average: the last model would be an average and those before it not, which no curve may join. "
                "Leave one out, or take overrides: {ema: 0.99}, which averages all of them"
            )
        return self

    @property
    def init_experiment(self) -> str | None:
        """The experiment whose proxies these go on from."""
        return self.init.removeprefix(FROM) if self.init is not None and self.init.startswith(FROM) else None

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the weights beside scale, seed and data; empty where nothing is out of the ordinary."""
        changed: dict[str, Any] = {"average": self.average} if self.average > 1 else {}
        if self.precision != "float32":
            changed["precision"] = self.precision
        return changed


class Experiment(Settings):
    """A named override of the base: its rules in order, its selection and its mixture, after merging."""

    label: str
    rules: tuple[Rule, ...]
    selection: Selection | None  # None: every kept document once
    mixture: Mixture | None  # None where nothing is tokenised
    packing: Use | None = None  # None: documents one after the other, cut every `context` tokens
    phases: tuple[Phase, ...] = ()  # none: one phase with the mixture
    conditioning: Conditioning | None = None
    proxy: Proxy = Proxy()

    def selects_like(self, other: "Experiment") -> bool:
        """Whether both keep the same documents, in the same domains, and lay them out alike."""

        def chosen(one: Experiment) -> tuple[Any, ...]:
            by = None if one.mixture is None else (one.mixture.by, one.mixture.best_first)
            return one.rules, one.selection, one.packing, by

        return chosen(self) == chosen(other)

    @property
    def searches(self) -> list[str]:
        """The searches whose findings its mixtures are."""
        mixtures = [self.mixture, *(phase.mixture for phase in self.phases)]
        return sorted({mixture.search for mixture in mixtures if mixture is not None and mixture.search is not None})


class Search(Use):
    """A search for a mixture of what `experiment` selects, by its mixture's domains and for its budget.

    `objectives` are metrics to lower: a task, or task/domain. Each trial trains on `tokens`; with `match_repetition` it sees
    so small a part of each domain that it repeats it as often as the target would.
    """

    experiment: str
    objectives: tuple[str, ...]
    tokens: int
    match_repetition: bool = False


class Task(Settings):
    """An evaluation task: its kind and its checked settings."""

    label: str
    use: str
    config: TaskSettings


class Recipe(Settings):
    """A checked recipe. Made by `load_recipe`, which reports every problem at once."""

    name: str
    store: str
    folder: str  # where relative paths start: the recipe file's folder
    sources: tuple[SourceUse, ...]
    extract: tuple[Use, ...]
    scorers: tuple[Use, ...]
    linkers: tuple[LinkerUse, ...]
    rewrite: tuple[Use, ...]  # what is done to texts when they are emitted, in this order
    tokenizer: Tokenizer | None  # None: a recipe that only curates; it ends with decisions
    proxy: Proxy
    evaluate: tuple[Task, ...]
    experiments: tuple[Experiment, ...]
    searches: tuple[Search, ...]
    base: str
    seed: int
    max_error_share: float

    def experiment(self, label: str) -> Experiment:
        return next(experiment for experiment in self.experiments if experiment.label == label)

    @property
    def pools(self) -> list[str]:
        """The experiments whose selection is written once as tokens, for trainings that each draw documents of their own."""
        draws = [
            experiment for experiment in self.experiments if experiment.proxy.redraw and experiment.proxy.seeds > 1
        ]
        labels = [*(search.experiment for search in self.searches), *(experiment.label for experiment in draws)]
        return list(dict.fromkeys(self.pool_of(label) for label in labels))

    def pool_of(self, label: str) -> str:
        """The experiment under whose name what this one selects is written: the first that selects alike."""
        wanted = self.experiment(label)
        return next(other.label for other in self.experiments if other.selects_like(wanted))

    def search(self, label: str) -> Search:
        return next(search for search in self.searches if search.label == label)

    def asked_by(self, search: Search) -> tuple[Task, ...]:
        """The tasks its trials are asked: those of its objectives."""
        wanted = {objective.partition("/")[0] for objective in search.objectives}
        return tuple(task for task in self.evaluate if task.label in wanted)

    def scorer(self, label: str) -> Use:
        return next(use for use in self.scorers if use.label == label)

    def linker(self, label: str) -> LinkerUse:
        return next(use for use in self.linkers if use.label == label)
