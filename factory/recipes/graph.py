"""The graph of a recipe: every dataset it stands for, what each is made of and from. Nothing is read or run here."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from factory.core.errors import InputError
from factory.core.fingerprint import fingerprint
from factory.core.links import LINK_COLUMNS
from factory.core.manifest import dataset_name
from factory.evaluation.tasks import LongTail
from factory.recipes.inputs import Inputs
from factory.recipes.recipe import (
    Experiment,
    LinkerUse,
    Mixture,
    Phase,
    Proxy,
    Recipe,
    Rule,
    Search,
    Selection,
    Task,
    Tokenizer,
    Use,
)
from factory.recipes.references import pin_files, pin_model, pin_stage, pin_tokenizer
from factory.recipes.scale import proxy_scale

# The order in which datasets are made. Column datasets share one pass over the text.
KINDS = (
    "documents",
    "models",
    "scores",
    "keys",
    "encodings",
    "links",
    "decisions",
    "selection",
    "pools",
    "searches",
    "mixture",
    "tokens",
    "proxies",
    "evaluations",
    "leaderboard",
)
# Raised when a step itself (not a stage) would make something else of the same inputs.
STEP_VERSIONS = {
    **dict.fromkeys(KINDS, 1),
    **dict.fromkeys(("scores", "keys", "encodings", "decisions", "links"), 2),
    "proxies": 3,
    "evaluations": 3,
    "leaderboard": 3,
}
TRIAL_STEPS = ("proxies", "evaluations")  # what a trial of a search goes through
COLUMN_KINDS = ("scores", "keys", "encodings")
CONTAMINATION = "contamination"  # the scorer that looks for items of benchmarks
SUPPORT = "support"  # the scorer that looks for what their questions and answers speak of


@dataclass(frozen=True)
class Node:
    """One dataset to be. `spec` is its own identity; `upstream` are the names of the datasets it reads.

    `models` are those of them whose digest changes what every part holds, and so is part of the fingerprint; the others
    are read row by row, and a part made from the same rows is the same part. `files` pins inputs from outside.
    """

    kind: str
    label: str
    partition: str
    spec: Mapping[str, Any]
    upstream: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return dataset_name(self.kind, self.label, self.partition)

    def fingerprint(self, digests: Mapping[str, str]) -> str:
        """What should be made, given the digests of upstream models."""
        models = {name: digests[name] for name in self.models}
        return fingerprint({"step": STEP_VERSIONS[self.kind], "spec": self.spec, "models": models})

    def inputs(self, digests: Mapping[str, str]) -> dict[str, str]:
        """Everything it is made from, by digest."""
        return {**{name: digests[name] for name in self.upstream}, **self.files}


def build_graph(recipe: Recipe, inputs: Inputs) -> dict[str, Node]:
    """Every node by name, in the order they can be made."""
    builder = _Builder(recipe, inputs)
    nodes = [
        *(builder.documents(snapshot) for snapshot in inputs),
        *builder.models(),
        *(node for snapshot in inputs for node in builder.columns(snapshot)),
        *(node for snapshot in inputs for node in builder.links(snapshot)),
        *(builder.decisions(experiment, snapshot) for experiment in recipe.experiments for snapshot in inputs),
    ]
    if recipe.tokenizer is not None:
        for experiment in recipe.experiments:
            assert experiment.mixture is not None
            nodes.append(builder.selected(experiment))
            nodes += builder.mixed(experiment, experiment.mixture, recipe.tokenizer)
            nodes += builder.judged(experiment, experiment.mixture)
        nodes += [builder.pool(recipe.experiment(label), recipe.tokenizer) for label in recipe.pools]
        nodes += [builder.searched(search) for search in recipe.searches]
    else:
        nodes += [builder.selected(experiment) for experiment in recipe.experiments if experiment.selection is not None]
    if recipe.evaluate:
        nodes.append(builder.leaderboard())
    rank = {kind: index for index, kind in enumerate(KINDS)}
    # Keys that wait for rules read scores, and texts are rewritten by what links say, too.
    late = {node.name: rank["links"] - 0.5 for node in nodes if node.kind == "keys" and "after" in node.spec}
    late |= {node.name: rank["links"] + 0.5 for node in nodes if "rewrite" in node.spec}
    # A proxy that goes on from another comes after it.
    depths = {experiment.label: init_depth(recipe, experiment) for experiment in recipe.experiments}
    late |= {
        node.name: rank["proxies"] + depths[node.label] / (1 + max(depths.values()))
        for node in nodes
        if node.kind == "proxies" and depths[node.label]
    }
    return {node.name: node for node in sorted(nodes, key=lambda node: late.get(node.name, rank[node.kind]))}


def phase_identity(phase: Phase) -> dict[str, Any]:
    """What of a phase decides the mixture."""
    return {"label": phase.label, "share": phase.share, **phase.mixture.identity}


def init_depth(recipe: Recipe, experiment: Experiment) -> int:
    """How many experiments' proxies have to be there before this one's can go on from one of them."""
    before = experiment.proxy.init_experiment
    return 0 if before is None else 1 + init_depth(recipe, recipe.experiment(before))


def reads_of(use: Use) -> tuple[str, ...]:
    """The columns a rule, a selection or a rewriter reads."""
    return use.reads if isinstance(use, Rule | Selection) else use.stage.reads_for(use.config)


def column_owners(recipe: Recipe) -> dict[str, tuple[str, str, str]]:
    """Which dataset a rule's column is stored in: column to (kind, label, stored name)."""
    owners = {
        f"{use.label}_{name}": ("scores", use.label, name)
        for use in recipe.scorers
        for name in use.stage.writes_for(use.config)
    }
    for linker in recipe.linkers:
        for name in LINK_COLUMNS[linker.stage.links]:
            owners[f"{linker.label}_{name}"] = ("links", linker.label, name)
    return owners


def pin_use(use: Use, folder: str) -> dict[str, dict[str, str]]:
    """What pins the files a use of a stage names; raises InputError that says where the recipe names one that is not there."""
    try:
        return pin_stage(use.stage, use.config, folder)
    except InputError as error:
        raise InputError(f"{use.stage.kind}s.{use.label}: {error}") from error


def asked_in(recipe: Recipe) -> list[Use]:
    """The scorers that look for items of the recipe's own evaluation tasks: those that read the same files."""
    return _reading(recipe, CONTAMINATION, recipe.evaluate)


def counted_in(recipe: Recipe) -> list[Use]:
    """The scorers that count how many documents support the items of evaluation tasks which name no counts of their own."""
    return _reading(recipe, SUPPORT, [task for task in recipe.evaluate if asks_for_counts(task)])


def asks_for_counts(task: Task) -> bool:
    return isinstance(task.config, LongTail) and task.config.counts is None


def _reading(recipe: Recipe, stage: str, asked: Sequence[Task]) -> list[Use]:
    """The scorers of this stage that read a file which one of the tasks reads, too."""
    scorers = [use for use in recipe.scorers if use.stage.name == stage]
    if not scorers or not asked:
        return []
    tasks = set(pin_files([task.config.uri for task in asked], recipe.folder).values())
    pinned = {use.label: pin_use(use, recipe.folder) for use in scorers}
    return [
        use
        for use in scorers
        if any(digest in tasks for names in pinned[use.label].values() for digest in names.values())
    ]


def rules_of_linkers(recipe: Recipe, experiment: Experiment) -> list[str]:
    """The rules that read columns of the linkers whose columns the selection reads: copies are not what it learns from."""
    owners = column_owners(recipe)
    reads = experiment.selection.reads if experiment.selection is not None else ()
    linkers = {owners[name][1] for name in reads if name in owners and owners[name][0] == "links"}
    return [
        rule.label
        for rule in experiment.rules
        if any(name in owners and owners[name][0] == "links" and owners[name][1] in linkers for name in rule.reads)
    ]


@dataclass
class _Builder:
    recipe: Recipe
    inputs: Inputs

    @property
    def first(self) -> str:
        """Models learn from the first snapshot, so that a later one never changes what was scored before."""
        return min(self.inputs)

    def first_of(self, source: str) -> str:
        return min(snapshot for snapshot, sources in self.inputs.items() if source in sources)

    def documents(self, snapshot: str) -> Node:
        sources = self.inputs[snapshot]
        spec = {label: self.source_spec(label) for label in sources}
        files = {f"{label}:{file.name}": file.identity for label, found in sources.items() for file in found}
        return Node("documents", "", snapshot, {"sources": spec}, files=files)

    def source_spec(self, label: str) -> dict[str, Any]:
        source = next(use for use in self.recipe.sources if use.label == label)
        return {
            **source.identity,
            "part_bytes": source.part_bytes,
            "extract": [use.identity for use in self.recipe.extract],
        }

    def models(self) -> list[Node]:
        nodes = [] if self.recipe.tokenizer is None else [self.tokenizer(self.recipe.tokenizer)]
        for use in self.trained():
            assert use.stage.train is not None
            ready = use.stage.train.ready(use.config)
            if ready is not None:
                nodes.append(
                    Node(
                        "models",
                        use.label,
                        "",
                        {"stage": use.stage.name, "ready": True},
                        files=pin_model(*ready, self.recipe.folder),
                    )
                )
                continue
            samples = [
                {
                    "role": item.role,
                    "documents": item.documents,
                    "source": item.source,
                    "uri": item.uri,
                    **({} if item.columns == ("text",) else {"columns": item.columns}),
                }
                for item in use.stage.train.samples(use.config)
            ]
            spec = {**self.keyed(use), "train": use.stage.train.version, "samples": samples, "seed": self.recipe.seed}
            if use.stage.paths is not None:
                spec["files"] = pin_use(use, self.recipe.folder)
            sources = [item["source"] for item in samples if isinstance(item["source"], str)]
            upstream = {dataset_name("documents", "", self.first_of(source)) for source in sources}
            nodes.append(
                Node("models", use.label, "", spec, tuple(sorted(upstream)), files=self.reference_files(samples))
            )
        return nodes

    def identity(self, use: Use) -> dict[str, Any]:
        """What decides a stage's output: its settings, and the content of the files they name."""
        if use.stage.files is None and use.stage.paths is None:
            return use.identity
        return {**use.identity, "files": pin_use(use, self.recipe.folder)}

    def keyed(self, use: Use) -> dict[str, Any]:
        """The settings that decide what a stage writes beside documents: without those that only its join reads."""
        settings = {
            name: value for name, value in use.identity["settings"].items() if name not in use.stage.join_settings
        }
        return {**use.identity, "settings": settings}

    def trained(self) -> list[Use]:
        uses = [*self.recipe.scorers, *self.recipe.linkers]
        return [use for use in uses if use.stage.train is not None]

    def reference_files(self, samples: list[dict[str, Any]]) -> dict[str, str]:
        return pin_files([item["uri"] for item in samples if isinstance(item["uri"], str)], self.recipe.folder)

    def tokenizer(self, settings: Tokenizer) -> Node:
        of_policy = {"bos", "eos", "bos_token", "eos_token"}
        spec = {"tokenizer": settings.model_dump(mode="json", exclude=of_policy), "seed": self.recipe.seed}
        if settings.path is not None:
            named = settings.model_dump(include={"bos_token", "eos_token"}, exclude_none=True)
            pinned = pin_tokenizer(settings.path, settings.sha256, self.recipe.folder)
            return Node("models", "tokenizer", "", {"ready": True, **named}, files=pinned)
        return Node("models", "tokenizer", "", spec, (dataset_name("documents", "", self.first),))

    def columns(self, snapshot: str) -> list[Node]:
        documents = dataset_name("documents", "", snapshot)
        trained = {use.label for use in self.trained()}
        nodes = []
        for kind, use in [*(("scores", u) for u in self.recipe.scorers), *(("keys", u) for u in self.recipe.linkers)]:
            models = (dataset_name("models", use.label, ""),) if use.label in trained else ()
            spec = {**self.identity(use), **self.keyed(use)}
            read: set[tuple[str, str]] = set()
            if isinstance(use, LinkerUse) and use.after:
                spec["after"] = [
                    {"label": rule.label, "reads": rule.reads, **self.identity(rule)} for rule in use.after
                ]
                owners = column_owners(self.recipe)
                read = {owners[name][:2] for rule in use.after for name in rule.reads if name in owners}
            beside = [dataset_name(*owner, snapshot) for owner in sorted(read)]
            nodes.append(Node(kind, use.label, snapshot, spec, (documents, *models, *beside), models))
        if self.recipe.tokenizer is not None:
            nodes.append(self.encodings(snapshot, self.recipe.tokenizer))
        return nodes

    def encodings(self, snapshot: str, settings: Tokenizer) -> Node:
        tokenizer = dataset_name("models", "tokenizer", "")
        spec: dict[str, Any] = {"bos": settings.bos, "eos": settings.eos}
        upstream = [dataset_name("documents", "", snapshot), tokenizer]
        if self.recipe.rewrite:
            owners = column_owners(self.recipe)
            reads = {name for use in self.recipe.rewrite for name in use.stage.reads_for(use.config) if name in owners}
            upstream += sorted({dataset_name(*owners[name][:2], snapshot) for name in reads})
            spec["rewrite"] = [use.identity for use in self.recipe.rewrite]
        return Node("encodings", "", snapshot, spec, tuple(upstream), (tokenizer,))

    def links(self, snapshot: str) -> list[Node]:
        nodes = []
        for linker in self.recipe.linkers:
            scope = {
                "snapshot": [snapshot],
                "incremental": [other for other in self.inputs if other <= snapshot],
                "global": list(self.inputs),
            }[linker.scope]
            upstream = [
                dataset_name(kind, label, other)
                for other in scope
                for kind, label in (("documents", ""), ("keys", linker.label))
            ]
            if linker.best is not None:
                kind, label, _ = column_owners(self.recipe)[linker.best]
                upstream += [dataset_name(kind, label, other) for other in scope]
            spec = {**self.identity(linker), "scope": linker.scope, "keep": linker.keep}
            nodes.append(Node("links", linker.label, snapshot, spec, tuple(upstream)))
        return nodes

    def decisions(self, experiment: Experiment, snapshot: str) -> Node:
        owners = column_owners(self.recipe)
        spec = {
            "rules": [{"label": rule.label, "reads": rule.reads, **self.identity(rule)} for rule in experiment.rules],
            "seed": self.recipe.seed,
        }
        reads = [name for use in (*experiment.rules, *self.recipe.rewrite) for name in reads_of(use)]
        read = {owners[name][:2] for name in reads if name in owners}
        read |= {("keys", label) for kind, label in read if kind == "links"}
        upstream = [dataset_name("documents", "", snapshot)]
        if self.recipe.tokenizer is not None:
            upstream.append(dataset_name("encodings", "", snapshot))
        upstream += [dataset_name(kind, label, snapshot) for kind, label in sorted(read)]
        return Node("decisions", experiment.label, snapshot, spec, tuple(upstream))

    def selected(self, experiment: Experiment) -> Node:
        kinds = ["documents", *(["encodings"] if self.recipe.tokenizer is not None else [])]
        upstream = [dataset_name("decisions", experiment.label, snapshot) for snapshot in self.inputs]
        upstream += [dataset_name(kind, "", snapshot) for kind in kinds for snapshot in self.inputs]
        mixture = experiment.mixture
        reads = list(mixture.by) if mixture is not None else ["source"]
        spec: dict[str, Any] = {"by": reads[0] if len(reads) == 1 else list(reads)}
        if mixture is not None and mixture.best_first is not None:
            spec["best_first"] = mixture.best_first
            reads.append(mixture.best_first)
        if experiment.selection is not None:
            reads += experiment.selection.reads
            spec["selection"] = {
                **self.identity(experiment.selection),
                "reads": experiment.selection.reads,
                "ignores": rules_of_linkers(self.recipe, experiment),
            }
        upstream += self.beside(reads)
        return Node("selection", experiment.label, "", spec, tuple(dict.fromkeys(upstream)))

    def beside(self, columns: Iterable[str]) -> list[str]:
        """The datasets beside documents that hold these columns, of all snapshots."""
        owners = column_owners(self.recipe)
        read = sorted({owners[name][:2] for name in columns if name in owners})
        return [dataset_name(kind, label, snapshot) for kind, label in read for snapshot in self.inputs]

    def mixed(self, experiment: Experiment, mixture: Mixture, settings: Tokenizer) -> list[Node]:
        label = experiment.label
        selection = dataset_name("selection", label, "")
        spec = dict(mixture.identity)
        if experiment.phases:
            spec["phases"] = [phase_identity(phase) for phase in experiment.phases]
        searches = tuple(dataset_name("searches", search, "") for search in experiment.searches)
        mixed = Node("mixture", label, "", spec, (selection, *searches), searches)
        tokens = self.tokenised("tokens", label, settings, (selection, mixed.name))
        packed = experiment.packing.stage.reads_for(experiment.packing.config) if experiment.packing is not None else ()
        spec = {**tokens.spec, **self.laid_out(experiment)}
        return [mixed, replace(tokens, spec=spec, upstream=(*tokens.upstream, *self.beside(packed)))]

    def tokenised(self, kind: str, label: str, settings: Tokenizer, chosen: tuple[str, ...]) -> Node:
        """A token file of the documents that the datasets `chosen` name."""
        documents = [dataset_name("documents", "", snapshot) for snapshot in self.inputs]
        encodings = [dataset_name("encodings", "", snapshot) for snapshot in self.inputs]
        tokenizer = dataset_name("models", "tokenizer", "")
        policy = {"seed": self.recipe.seed, "bos": settings.bos, "eos": settings.eos}
        return Node(kind, label, "", policy, (*chosen, *documents, *encodings, tokenizer), (tokenizer,))

    def laid_out(self, experiment: Experiment) -> dict[str, Any]:
        """How the documents of an experiment become sequences, where that is out of the ordinary."""
        spec: dict[str, Any] = {}
        if experiment.packing is not None:
            spec["packing"] = self.identity(experiment.packing)
        if experiment.phases:
            spec["phases"] = [
                {"label": phase.label, "share": phase.share, "conditioned": phase.conditioned}
                for phase in experiment.phases
            ]
        if experiment.conditioning is not None:
            spec["conditioning"] = experiment.conditioning.model_dump(mode="json")
        return spec

    def pool(self, experiment: Experiment, settings: Tokenizer) -> Node:
        """What trainings read that draw their own documents: every one selected, once; mixtures are plans over it."""
        pool = self.tokenised("pools", experiment.label, settings, (dataset_name("selection", experiment.label, ""),))
        if experiment.packing is None:
            return pool
        # A packer may have an order of its own for the documents, which the pool then has a column for.
        packed = experiment.packing.stage.reads_for(experiment.packing.config)
        spec = {**pool.spec, "packing": self.identity(experiment.packing)}
        return replace(pool, spec=spec, upstream=tuple(dict.fromkeys((*pool.upstream, *self.beside(packed)))))

    def searched(self, search: Search) -> Node:
        experiment = self.recipe.experiment(search.experiment)
        assert experiment.mixture is not None
        proxy = experiment.proxy
        asked = self.recipe.asked_by(search)
        packing = {"packing": self.identity(experiment.packing)} if experiment.packing is not None else {}
        spec = {
            **self.identity(search),
            "steps": {kind: STEP_VERSIONS[kind] for kind in TRIAL_STEPS},
            "objectives": search.objectives,
            "tokens": search.tokens,
            "target": experiment.mixture.identity,
            "seed": self.recipe.seed,
            "proxy": {**self.trained_spec(experiment, search.tokens), **packing},
            **({"match_repetition": True} if search.match_repetition else {}),
            "tasks": self.tasks(asked),
        }
        pool = dataset_name("pools", self.recipe.pool_of(search.experiment), "")
        upstream = [pool, dataset_name("models", "tokenizer", "")]
        upstream.append(dataset_name("selection", search.experiment, ""))
        files = {**self.pinned_tasks(asked), **self.init_files(proxy)}
        return Node("searches", search.label, "", spec, tuple(upstream), tuple(upstream[:2]), files)

    def tasks(self, asked: Sequence[Task]) -> dict[str, Any]:
        return {task.label: task.config.identity for task in asked}

    def pinned_tasks(self, asked: Sequence[Task]) -> dict[str, str]:
        places = [uri for task in asked for uri in task.config.places.values()]
        return dict(pin_files(places, self.recipe.folder))

    def proxy_name(self, proxy: Proxy, label: str, seed: int) -> str:
        return dataset_name("proxies", label, f"{proxy.scale}-{seed}")

    def trained_spec(self, experiment: Experiment, tokens: int) -> dict[str, Any]:
        """What decides the weights of a proxy apart from its seed and data."""
        proxy = experiment.proxy
        spec: dict[str, Any] = {"scale": asdict(proxy_scale(proxy)), "tokens": tokens, **proxy.identity}
        if proxy.init is not None:
            # By content: a run's folder follows from this, and another checkpoint is another run.
            spec["init"] = self.init_files(proxy) if proxy.init_experiment is None else "experiment"
        if experiment.selection is not None:
            spec["order"] = "copies"
        return spec

    def init_files(self, proxy: Proxy) -> dict[str, str]:
        """What pins the checkpoint a recipe's proxies go on from."""
        if proxy.init is None or proxy.init_experiment is not None:
            return {}
        return dict(pin_files([os.path.join(proxy.init, "*")], self.recipe.folder))

    def judged(self, experiment: Experiment, mixture: Mixture) -> list[Node]:
        nodes = []
        label, proxy = experiment.label, experiment.proxy
        tokens, tokenizer = dataset_name("tokens", label, ""), dataset_name("models", "tokenizer", "")
        tasks, pinned = self.tasks(self.recipe.evaluate), self.pinned_tasks(self.recipe.evaluate)
        budget = mixture.config.model_dump()["tokens"]
        # Which items the experiment trains on, where a scorer looks for them; it changes no score.
        scorers = asked_in(self.recipe)
        known = [dataset_name("scores", use.label, snapshot) for use in scorers for snapshot in self.inputs]
        known += [dataset_name("selection", label, "")] if scorers else []
        counted = [dataset_name("scores", use.label, one) for use in counted_in(self.recipe) for one in self.inputs]
        for seed in range(proxy.seeds):
            partition = f"{proxy.scale}-{seed}"
            spec = {
                **self.trained_spec(experiment, budget),
                "seed": [self.recipe.seed, seed],
                **({"checkpoints": proxy.checkpoints} if proxy.checkpoints > 1 else {}),
                **self.laid_out(experiment),
            }
            models = [tokenizer]
            if proxy.init_experiment is not None:
                models.append(self.proxy_name(proxy, proxy.init_experiment, seed))
            read = (tokens, *models)
            if proxy.redraw and seed:  # the first seed reads what the experiment's tokens are
                spec["documents"] = "by seed"
                models.append(dataset_name("mixture", label, ""))
                read = (dataset_name("pools", self.recipe.pool_of(label), ""), *models)
            files = self.init_files(proxy)
            trained = Node("proxies", label, partition, spec, read, tuple(models), files)
            nodes.append(trained)
            if tasks:
                judged = Node(
                    "evaluations",
                    label,
                    partition,
                    # With the content of their files: answers are kept by model below what was asked.
                    {"tasks": tasks, "files": pinned},
                    tuple(dict.fromkeys((trained.name, tokenizer, *known, *counted, *self.plan_of(read, counted)))),
                    files=pinned,
                )
                nodes.append(judged)
        return nodes

    def plan_of(self, read: Sequence[str], counted: Sequence[str]) -> list[str]:
        """The datasets that say which documents a training reads, where the support of items is counted in them."""
        return [name for name in read if name.split("/")[0] in ("tokens", "pools", "mixture")] if counted else []

    def leaderboard(self) -> Node:
        proxy = self.recipe.proxy
        upstream = [
            dataset_name(kind, experiment.label, f"{proxy.scale}-{seed}")
            for experiment in self.recipe.experiments
            for seed in range(proxy.seeds)
            for kind in ("proxies", "evaluations")
        ]
        upstream += [
            dataset_name(kind, experiment.label, "")
            for experiment in self.recipe.experiments
            for kind in ("selection", "mixture", "tokens")
        ]
        return Node(
            "leaderboard",
            "",
            "",
            {"base": self.recipe.base, "experiments": [experiment.label for experiment in self.recipe.experiments]},
            tuple(upstream),
        )
