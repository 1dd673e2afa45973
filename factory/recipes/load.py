"""From a recipe file to a checked Recipe: every problem found is reported at once, before anything runs."""

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from factory.core.columns import is_number, is_text
from factory.core.config import config_problems
from factory.core.errors import FactoryError, InputError, RecipeError, suggest
from factory.core.registry import find_stage, stages
from factory.core.schema import DOCUMENT
from factory.evaluation.tasks import TASKS
from factory.recipes.budgets import experiment_problems, search_problems
from factory.recipes.listings import PLACES, default_snapshot, listing_problems
from factory.recipes.recipe import (
    Conditioning,
    Experiment,
    LinkerUse,
    Mixture,
    Phase,
    Proxy,
    Recipe,
    Rule,
    Search,
    Selection,
    SourceUse,
    Task,
    Tokenizer,
    Use,
)
from factory.recipes.yaml import MAX_BYTES, read_yaml
from factory.training.scales import SCALES

LABEL = re.compile(r"[a-z][a-z0-9_]{0,40}")
SECTIONS = (
    "name",
    "store",
    "sources",
    "extract",
    "scorers",
    "linkers",
    "filters",
    "rewrite",
    "tokenizer",
    "selection",
    "mixture",
    "packing",
    "phases",
    "conditioning",
    "proxy",
    "evaluate",
    "searches",
    "experiments",
    "base",
    "seed",
    "max_error_share",
)
EXPERIMENT_SECTIONS = ("filters", "selection", "mixture", "packing", "phases", "conditioning", "proxy")
MODELLED_SECTIONS = ("mixture", "packing", "phases", "conditioning", "proxy", "evaluate", "searches")
MIXTURE_KEYS = ("by", "best_first", "tokens", "max_epochs", "allow_red")  # what an override of another mixer keeps
PRESET_SECTIONS = ("name", "source", "scorers", "rules")
DEFAULT_PART_BYTES = 64 << 20
MOST_NAMED = 12  # columns in a message
NO_TOKENIZER = "none"
T = TypeVar("T")


def load_recipe(path: str, *, store: str | None = None) -> Recipe:
    """The recipe in this file; `store` replaces the one it names. Raises RecipeError with all problems."""
    try:
        with open(path, encoding="utf-8") as stream:
            text = stream.read()
    except FileNotFoundError:
        raise RecipeError([f"{path}: no such recipe. 'factory init' writes one."]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([f"{path}: cannot be read as text: {error}."]) from error
    return check_recipe(read_yaml(text, path), folder=os.path.dirname(os.path.abspath(path)), store=store)


def check_recipe(data: Any, *, folder: str, store: str | None = None) -> Recipe:
    """A Recipe from plain data; `folder` is where its relative paths start."""
    checker = _Checker(folder)
    recipe = checker.recipe(data, store)
    if checker.problems or recipe is None:
        raise RecipeError(checker.problems)
    return recipe


@dataclass
class _Checker:
    folder: str
    problems: list[str] = field(default_factory=list)
    # Scorers and linkers that are in error themselves, by label: the stage each means, None where nobody can tell. What they
    # would write is not known, so nothing that asks for it is called wrong.
    broken: dict[str, str | None] = field(default_factory=dict)
    # Experiments whose proxy is in error, or the base's is: what follows from it is not told.
    no_proxy: set[str] = field(default_factory=set)

    def recipe(self, data: Any, store: str | None) -> Recipe | None:
        if not isinstance(data, Mapping):
            self.problems.append(
                f"a recipe is a map of sections; this is {_kind(data)}. 'factory init' writes an example."
            )
            return None
        self.known_keys("recipe", data, SECTIONS)
        given = self.section(data, "sources")
        sources = [self.source(label, item) for label, item in given.items()]
        if not sources:
            self.problems.append("sources: at least one source is needed.")
        extract = [
            self.use("extractor", f"extract[{i}]", "extract", item)
            for i, item in enumerate(self.sequence(data, "extract"))
        ]
        scorers = []
        for label, item in self.section(data, "scorers").items():
            scorers.append(self.use("scorer", f"scorers.{label}", label, item))
            if scorers[-1] is None:
                self.broken[label] = _meant("scorer", item)
        linking, linkers = self.section(data, "linkers"), list[LinkerUse]()
        for label, item in linking.items():
            linker = self.linker(label, item, _present(scorers))
            if linker is None:
                self.broken[label] = _meant("linker", item)
            else:
                linkers.append(linker)
        linkers = self.waiting(linkers, linking, _present(scorers), self.section(data, "filters"))
        self.learn_from_known(_present(scorers), linkers, list(given))
        curates = data.get("tokenizer") == NO_TOKENIZER
        proxy = self.proxy("proxy", self.section(data, "proxy"))
        written = data.get("experiments")
        labels = [str(label) for label in written or ("base",)] if isinstance(written or {}, Mapping) else []
        experiments = self.experiments(data, _present(scorers), linkers, proxy, labels, mixes=not curates)
        base = data.get("base", labels[0] if labels else "")
        if labels and base not in labels:
            self.problems.append(f"base: no experiment is named '{base}'.{suggest(str(base), labels)}")
        rewrite = self.rewriters(data, _present(scorers), linkers)
        tokenizer = None if curates else self.values(Tokenizer, "tokenizer", self.section(data, "tokenizer"))
        tasks = [self.task(label, item) for label, item in self.section(data, "evaluate").items()]
        searches = [] if curates else self.searches(data, experiments, labels)
        if not curates:
            self.budgets(data, experiments, searches)
        for section in MODELLED_SECTIONS if curates else ():
            if data.get(section):
                self.problems.append(
                    f"{section}: a recipe with 'tokenizer: {NO_TOKENIZER}' ends with decisions. Remove one of the two sections."
                )
        name = data.get("name", "")
        if not isinstance(name, str) or not LABEL.fullmatch(name):
            self.problems.append(f"name: a recipe is named in small letters, digits and _, not {name!r}.")
        seed = data.get("seed", 0)
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            self.problems.append(f"seed: a whole number from 0 up is meant (got {seed!r}).")
        share = data.get("max_error_share", 0.05)
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share <= 1:
            self.problems.append(f"max_error_share: a number from 0 to 1 is meant (got {share!r}).")
        place = store or data.get("store", ".factory")
        if not isinstance(place, str) or not place:
            self.problems.append(f"store: a folder or URL is meant (got {place!r}).")
        if self.problems:
            self.problems = list(dict.fromkeys(self.problems))
            return None
        assert proxy is not None
        return Recipe(
            name=name,
            store=place
            if "://" in place
            else os.path.join(self.folder, place)
            if not store
            else os.path.abspath(place),
            folder=self.folder,
            sources=tuple(_present(sources)),
            extract=tuple(_present(extract)),
            scorers=tuple(_present(scorers)),
            linkers=tuple(linkers),
            rewrite=tuple(rewrite),
            tokenizer=tokenizer,
            proxy=proxy,
            evaluate=tuple(_present(tasks)),
            experiments=tuple(experiments),
            searches=tuple(searches),
            base=str(base),
            seed=seed,
            max_error_share=float(share),
        )

    # --- sections

    def source(self, label: str, item: Any) -> SourceUse | None:
        where = f"sources.{label}"
        kinds = {"uri": str, "snapshot": str, "part_bytes": int, "base": str, "every": int, "limit_files": int}
        own = self.take(where, item, kinds)
        use = self.use("source", where, label, item, leave_out=tuple(kinds))
        if own is None or use is None:
            return None
        if "uri" not in own:
            self.problems.append(f"{where}.uri: a path or glob is required.")
            return None
        self.problems += [f"{where}.{problem}" for problem in listing_problems(own)]
        snapshot = own.get("snapshot", default_snapshot(use.stage.name, own))
        try:
            snapshot.format(**dict.fromkeys(PLACES, "x"))
        except (KeyError, IndexError, ValueError):
            known = ", ".join(f"{{{name}}}" for name in PLACES)
            self.problems.append(f"{where}.snapshot: '{snapshot}' may hold {known} only.")
        part_bytes = own.get("part_bytes", DEFAULT_PART_BYTES)
        if part_bytes < 1 << 10:
            self.problems.append(f"{where}.part_bytes: at least 1,024 (got {part_bytes}).")
        return SourceUse(
            label=label,
            stage=use.stage,
            config=use.config,
            snapshot=snapshot,
            part_bytes=part_bytes,
            **{key: own[key] for key in ("uri", "base", "every", "limit_files") if key in own},
        )

    def linker(self, label: str, item: Any, scorers: list[Use]) -> LinkerUse | None:
        where = f"linkers.{label}"
        # Who stands for a cluster is the recipe's to say; what a linker of another join keeps is a setting of its own.
        elects = not isinstance(item, Mapping) or _elects(item.get("use"))
        outer = ("scope", "keep") if elects else ("scope",)
        own = self.take(where, item, {**dict.fromkeys(outer, str), "after": list})
        if own is not None:
            own.pop("after", None)  # once all linkers are known: see `waiting`
        use = self.use("linker", where, label, item, leave_out=(*outer, "after"))
        if own is None or use is None:
            return None
        try:
            linker = LinkerUse(label=label, stage=use.stage, config=use.config, **own)
        except ValidationError as error:
            self.problems += config_problems(where, error, LinkerUse)
            return None
        if linker.best is not None:
            scored = {name: kind for use in scorers for name, kind in use.columns.items() if is_number(kind)}
            if linker.best not in scored:
                if not self.is_of_broken(linker.best):
                    known = suggest(linker.best, scored)
                    self.problems.append(
                        f"{where}.keep: '{linker.best}' is no column of numbers that a scorer writes.{known}"
                    )
                return None
        return linker

    def waiting(
        self, linkers: list[LinkerUse], data: Mapping[str, Any], scorers: list[Use], filters: Mapping[str, Any]
    ) -> list[LinkerUse]:
        """The linkers with the rules of `after`: those a document has to pass to be linked, of one document alone each."""
        columns = available_columns(scorers, linkers)
        links = {name for linker in linkers for name in linker.columns}
        made = []
        for linker in linkers:
            where, rules = f"linkers.{linker.label}.after", list[Rule]()
            for label in data[linker.label].get("after") or ():
                if not isinstance(label, str) or label not in filters:
                    self.problems.append(f"{where}: no filter is labelled '{label}'.{suggest(str(label), filters)}")
                    continue
                # A mistake in the filter is told where the filter stands; as an experiment may tell it again, once.
                found = self.rules(label, filters[label], columns, scorers)
                read = [name for rule in found for name in rule.reads if name in links]
                if read:
                    why = f"reads links ({', '.join(dict.fromkeys(read))}), which are made after it"
                elif any(rule.stage.fit is not None for rule in found):
                    why = "compares documents with each other"
                else:
                    rules += found
                    continue
                self.problems.append(
                    f"{where}: filter '{label}' does not look at a document alone: it {why}. "
                    "Name filters that read columns of scorers and of documents."
                )
            made.append(linker.model_copy(update={"after": tuple(rules)}))
        return made

    def learn_from_known(self, scorers: list[Use], linkers: list[LinkerUse], sources: list[str]) -> None:
        """Report the sources stages learn from that the recipe does not have."""
        for where, use in [*(("scorers", use) for use in scorers), *(("linkers", use) for use in linkers)]:
            training = use.stage.train
            if training is None or training.ready(use.config) is not None:
                continue
            for sample in training.samples(use.config):
                if sample.source is not None and sample.source not in sources:
                    self.problems.append(
                        f"{where}.{use.label}: learns from source '{sample.source}', which the recipe does not have."
                        f"{suggest(sample.source, sources)}"
                    )

    def task(self, label: str, item: Any) -> Task | None:
        where = f"evaluate.{label}"
        self.label(where, label)
        if not isinstance(item, Mapping) or "use" not in item:
            self.problems.append(f"{where}: 'use' is required.{suggest('', TASKS)}")
            return None
        if item["use"] not in TASKS:
            self.problems.append(
                f"{where}.use: no task kind is named '{item['use']}'.{suggest(str(item['use']), TASKS)}"
            )
            return None
        settings = {key: value for key, value in item.items() if key != "use"}
        if item["use"] == "harness" and "file" in settings:
            # A declaration of its own, whose paths start where it lies; what the recipe says beside it wins.
            from factory.evaluation.harness_tasks import read_declaration  # it needs a template engine

            path = os.path.join(self.folder, str(settings.pop("file")))
            try:
                settings = {**read_declaration(path)[1].model_dump(), **settings}
            except InputError as error:
                self.problems.append(f"{where}: {error}")
                return None
        config = self.values(TASKS[item["use"]], where, settings)
        return Task(label=label, use=item["use"], config=config) if config else None

    def rewriters(self, data: Mapping[str, Any], scorers: list[Use], linkers: list[LinkerUse]) -> list[Use]:
        """The `rewrite` section; it reads columns of scorers and linkers."""
        columns = available_columns(scorers, linkers)
        made_columns = {name: kind for use in (*scorers, *linkers) for name, kind in use.columns.items()}
        made = []
        for label, item in self.section(data, "rewrite").items():
            where = f"rewrite.{label}"
            if isinstance(item, Mapping) and isinstance(item.get("column"), str):
                column = resolve_column(item["column"], scorers)
                if column not in made_columns:
                    self.unknown_column(where, item["column"], column, columns, scorers)
                    continue
                item = {**item, "column": column}
            use = self.use("rewriter", where, label, item)
            if use is None:
                continue
            for name in use.stage.reads_for(use.config):
                if name not in made_columns and name not in DOCUMENT.names and not self.is_of_broken(name):
                    self.problems.append(
                        f"{where}: reads '{name}', which no stage writes.{suggest(name, made_columns)}"
                    )
            self.types(where, use, made_columns)
            made.append(use)
        return made

    def experiments(
        self,
        data: Mapping[str, Any],
        scorers: list[Use],
        linkers: list[LinkerUse],
        base_proxy: Proxy | None,
        labels: list[str],
        *,
        mixes: bool,
    ) -> list[Experiment]:
        columns = available_columns(scorers, linkers)
        base = self.section(data, "filters")
        mixture = data.get("mixture", {"use": "natural"})
        overrides = self.section(data, "experiments") or {"base": {}}
        made = []
        for label, override in overrides.items():
            where = f"experiments.{label}"
            self.label(where, label)
            override = {} if override is None else override
            if not isinstance(override, Mapping):
                self.problems.append(f"{where}: a map of overrides is meant, this is {_kind(override)}.")
                continue
            self.known_keys(where, override, EXPERIMENT_SECTIONS)
            if not isinstance(override.get("proxy") or {}, Mapping):
                self.problems.append(f"{where}.proxy: a map is meant, this is {_kind(override['proxy'])}.")
                continue
            changed = override.get("filters", None)
            if changed is not None and not isinstance(changed, Mapping):
                self.problems.append(f"{where}.filters: a map is meant, this is {_kind(changed)}.")
                continue
            filters = merge_filters(base, changed)
            for gone in [key for key, value in (changed or {}).items() if value is None and key not in base]:
                self.problems.append(
                    f"{where}.filters.{gone}: removes a filter the base does not have.{suggest(gone, base)}"
                )
            rules = [rule for key, item in filters.items() for rule in self.rules(key, item, columns, scorers)]
            chosen = self.placed(
                where,
                "selection",
                override,
                lambda override: self.selection(data.get("selection"), override, columns, scorers),
            )
            if not mixes:
                made.append(Experiment(label=label, rules=tuple(rules), selection=chosen, mixture=None))
                continue
            mixed = self.placed(
                where,
                "mixture",
                override,
                lambda override: self.mixture("mixture", _override(mixture, override.get("mixture", {})), columns),
            )
            conditioned = override.get("conditioning", data.get("conditioning"))
            conditioning = self.conditioning(_place(where, "conditioning", override), conditioned, columns)
            packing = override.get("packing", data.get("packing"))
            packer = self.packing(_place(where, "packing", override), packing, columns)
            proxy = self.proxy_of(where, data.get("proxy"), override.get("proxy"), base_proxy)
            if proxy is None:
                self.no_proxy.add(label)
            if mixed is None:
                continue
            item = _override(mixture, override.get("mixture", {}))
            phases = self.phases(where, override.get("phases", data.get("phases")), item, mixed, columns)
            for phase in phases if conditioned is None else ():
                if phase.conditioned:
                    self.problems.append(
                        f"{where}.phases: '{phase.label}' is conditioned and nothing says on what. Add a section 'conditioning' "
                        "with a column."
                    )
            made.append(
                Experiment(
                    label=label,
                    rules=tuple(rules),
                    selection=chosen,
                    mixture=mixed,
                    packing=packer,
                    phases=tuple(phases),
                    conditioning=conditioning,
                    proxy=proxy or Proxy(),
                )
            )
        self.going_on(made, base_proxy, labels)
        # A base filter stands in several experiments: its problem is reported once.
        self.problems = list(dict.fromkeys(self.problems))
        return made

    def placed(
        self, where: str, section: str, override: Mapping[str, Any], check: Callable[[Mapping[str, Any]], T]
    ) -> T:
        """What `check` makes of a section with an experiment's override; problems stand where they were written.

        Those of keys that the override brings are the experiment's, and those that the base has without it are the base's.
        """
        made, found = self.aside(lambda: check(override))
        changed = override.get(section)
        if changed is None or not found:
            self.problems += found
            return made
        of_base = {_unquoted(problem): problem for problem in self.aside(lambda: check({}))[1]}
        for problem in found:
            key = problem.partition(":")[0].removeprefix(section).removeprefix(".").partition(".")[0]
            own = bool(key) and isinstance(changed, Mapping) and key in changed
            if not own and _unquoted(problem) in of_base:
                self.problems.append(of_base[_unquoted(problem)])
            else:
                self.problems.append(f"{where}.{problem}")
        return made

    def aside(self, check: Callable[[], T]) -> tuple[T, list[str]]:
        """What `check` makes, and the problems it finds, which are not reported yet."""
        before, self.problems = self.problems, []
        made = check()
        found, self.problems = self.problems, before
        return made, found

    def proxy(self, where: str, item: Any) -> Proxy | None:
        proxy: Proxy | None = self.values(Proxy, where, item)
        if proxy and proxy.scale not in SCALES:
            self.problems.append(f"{where}.scale: no scale is named '{proxy.scale}'.{suggest(proxy.scale, SCALES)}")
            return None
        return proxy

    def proxy_of(self, where: str, written: Any, changed: Any, base: Proxy | None) -> Proxy | None:
        """The proxy of an experiment; None where its override is in error, or the base, which is told there."""
        if base is None:
            self.proxy(f"{where}.proxy", changed or {})
            return None
        return self.proxy(f"{where}.proxy", _override_map(written, changed))

    def going_on(self, experiments: list[Experiment], base: Proxy | None, labels: list[str]) -> None:
        """Report proxies that go on from experiments that are not there or go on from themselves, and unequal seeds."""
        by_label = {experiment.label: experiment for experiment in experiments}
        for experiment in experiments:
            where, proxy = f"experiments.{experiment.label}.proxy", experiment.proxy
            for name in ("scale", "seeds") if base and experiment.label not in self.no_proxy else ():
                if getattr(proxy, name) != getattr(base, name):
                    self.problems.append(
                        f"{where}.{name}: experiments are compared at one scale and with as many seeds. Set proxy.{name}."
                    )
            seen, now = [experiment.label], proxy.init_experiment
            while now is not None and now in by_label and now not in seen:
                seen.append(now)
                now = by_label[now].proxy.init_experiment
            if now is not None and now not in by_label:
                if now == proxy.init_experiment and now not in labels:
                    self.problems.append(f"{where}.init: no experiment is named '{now}'.{suggest(now, labels)}")
            elif now is not None:
                chain = " from ".join([*seen, now])
                self.problems.append(
                    f"{where}.init: {chain} goes on from itself. In these it can be taken away with 'init: null'."
                )

    def budgets(self, data: Mapping[str, Any], experiments: list[Experiment], searches: list[Search]) -> None:
        """Report trainings that end before their warm-up; a recipe that asks for none may make a few tokens all the same."""
        overrides = self.section(data, "experiments")
        trains = any(data.get(name) for name in ("proxy", "evaluate", "searches"))
        by_label = {experiment.label: experiment for experiment in experiments}
        told = set[str]()  # of tokens of the base, which stand in every experiment
        for label, experiment in by_label.items():
            written = overrides.get(label)
            written = written if isinstance(written, Mapping) else {}
            if label in self.no_proxy or not (trains or written.get("proxy")):
                continue
            own = isinstance(written.get("mixture"), Mapping) and "tokens" in written["mixture"]
            for problem in experiment_problems(experiment):
                place, _, what = problem.partition(": ")
                if own or not place.endswith(".mixture.tokens"):
                    self.problems.append(problem)
                elif what not in told:
                    told.add(what)
                    self.problems.append(problem)
        for search in searches:
            if search.experiment not in self.no_proxy and search.tokens > 0:
                self.problems += search_problems(search, by_label[search.experiment].proxy)
        self.problems = list(dict.fromkeys(self.problems))  # overrides of the base's proxy stand in every experiment

    def packing(self, where: str, item: Any, columns: Mapping[str, Any]) -> Use | None:
        if item is None:
            return None
        use = self.use("packer", where, "packing", item, check_label=False)
        for name in use.stage.reads_for(use.config) if use else ():
            if name not in columns:
                self.problems.append(f"{where}: reads '{name}', which no stage writes.{suggest(name, columns)}")
        return use

    def conditioning(self, where: str, item: Any, columns: Mapping[str, Any]) -> Conditioning | None:
        if item is None:
            return None
        if not isinstance(item, Mapping):
            self.problems.append(f"{where}: a map with 'column' is meant, this is {_kind(item)}.")
            return None
        made: Conditioning | None = self.values(Conditioning, where, item)
        texts = [name for name in DOCUMENT.names if name in columns and is_text(columns[name])]
        if made is not None and made.column not in texts:
            self.problems.append(
                f"{where}.column: no text column of documents is named '{made.column}'.{suggest(made.column, texts)}"
            )
        return made

    def phases(
        self, where: str, items: Any, mixture: Mapping[str, Any], mixed: Mixture, columns: Mapping[str, Any]
    ) -> list[Phase]:
        """The `phases` of an experiment: shares that sum to 1; a phase's mixture is an override of the experiment's."""
        if items is None:
            return []
        place = f"{where}.phases"
        if not isinstance(items, list) or not items:
            self.problems.append(f"{place}: a list of phases is meant, this is {_kind(items) if items else 'empty'}.")
            return []
        made: list[Phase] = []
        total = mixed.config.model_dump()["tokens"]
        for number, item in enumerate(items):
            at = f"{place}[{number}]"
            if not isinstance(item, Mapping):
                self.problems.append(f"{at}: a map with 'share' is meant, this is {_kind(item)}.")
                return []
            self.known_keys(at, item, ("name", "share", "mixture", "conditioned"))
            share, label = item.get("share"), str(item.get("name", f"phase_{number + 1}"))
            self.label(f"{at}.name", label)
            if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 < share <= 1:
                self.problems.append(f"{at}.share: a number above 0 and up to 1 is meant (got {share!r}).")
                return []
            changed = item.get("mixture", {})
            if isinstance(changed, Mapping) and "tokens" in changed:
                self.problems.append(
                    f"{at}.mixture.tokens: a phase has its share of the experiment's tokens ({total:,}). Change 'share'."
                )
                return []
            own = _override(mixture, changed)
            if isinstance(own, Mapping):
                own = {**own, "tokens": max(1, round(share * total))}
            phase = self.mixture(f"{at}.mixture", own, columns)
            if phase is None:
                return []
            if (phase.by, phase.best_first) != (mixed.by, mixed.best_first):
                self.problems.append(
                    f"{at}.mixture: the phases of an experiment have the same `by` ({', '.join(mixed.by)}) and `best_first`."
                )
            conditioned = item.get("conditioned")
            if conditioned is not None and not isinstance(conditioned, bool):
                self.problems.append(f"{at}.conditioned: true or false is meant (got {conditioned!r}).")
                return []
            made.append(Phase(label=label, share=float(share), mixture=phase, conditioned=conditioned))
        if len({phase.label for phase in made}) < len(made):
            self.problems.append(f"{place}: two phases have the same name.")
        if abs(sum(phase.share for phase in made) - 1) > 1e-6:
            self.problems.append(
                f"{place}: shares must sum to 1; these sum to {sum(phase.share for phase in made):.7g}."
            )
        return made

    def searches(self, data: Mapping[str, Any], experiments: list[Experiment], named: list[str]) -> list[Search]:
        """The `searches` section, and the experiments that take what they find.

        Experiments and tasks in error are known by the names they are written under.
        """
        made = []
        labels = list(self.section(data, "evaluate"))
        by_label = {experiment.label: experiment for experiment in experiments}
        written = self.section(data, "searches")
        for label, item in written.items():
            where = f"searches.{label}"
            kinds = {"experiment": str, "objectives": list, "tokens": int, "match_repetition": bool}
            own = self.take(where, item, kinds)
            use = self.use("searcher", where, label, item, leave_out=tuple(kinds))
            if own is None or use is None:
                continue
            name = own.get("experiment", named[0] if named else "")
            if name not in by_label:
                if named and name not in named:  # else no map of experiments, which is told
                    self.problems.append(f"{where}.experiment: no experiment is named '{name}'.{suggest(name, named)}")
                continue
            experiment = by_label[name]
            if experiment.searches:
                self.problems.append(
                    f"{where}.experiment: '{name}' takes its mixture from a search itself. Name one with a mixture of its own."
                )
                continue
            if experiment.proxy.init_experiment is not None:
                self.problems.append(
                    f"{where}.experiment: the proxies of '{name}' go on from those of '{experiment.proxy.init_experiment}', "
                    "which come after searches. Export that checkpoint and name its path in 'init', or search another one."
                )
            if experiment.mixture is not None and experiment.mixture.best_first is not None:
                self.problems.append(
                    f"{where}.experiment: '{name}' reads the best documents of a domain first (best_first), and trials read them "
                    "by hash: they would measure others. Search an experiment without it, and take the finding in this one."
                )
            checks_start = getattr(use.config, "start", None) is not None and name not in self.no_proxy
            if checks_start and experiment.proxy.init is None:
                self.problems.append(
                    f"{where}.start: the metrics of a checkpoint that trials go on from, and the proxies of '{name}' go on "
                    "from none. Name it in 'proxy.init', or leave 'start' out: a base model is then trained."
                )
            objectives = own.get("objectives", labels[:1])
            if labels and not objectives:
                self.problems.append(f"{where}.objectives: at least one task is meant.{suggest('', labels)}")
            for twice in sorted({str(one) for one in objectives if objectives.count(one) > 1}):
                self.problems.append(f"{where}.objectives: '{twice}' stands there twice. Each counts once.")
            if not labels:
                self.problems.append(f"{where}: a search needs something to lower. Add a task to 'evaluate'.")
            for objective in objectives:
                known = isinstance(objective, str) and objective.partition("/")[0] in labels
                if not known or objective.endswith("/"):
                    self.problems.append(
                        f"{where}.objectives: '{objective}' is no task, nor a task's domain.{suggest(str(objective), labels)}"
                    )
            assert experiment.mixture is not None
            budget = experiment.mixture.config.model_dump()["tokens"]
            tokens = own.get("tokens", budget)
            if tokens < 1:
                self.problems.append(f"{where}.tokens: a number above 0 is meant (got {tokens}).")
            matched = own.get("match_repetition", False)
            if matched and tokens > budget:
                self.problems.append(
                    f"{where}.match_repetition: a trial of {tokens:,} tokens is longer than the target of {budget:,}, and "
                    "repetition is matched by leaving documents out. Lower the trial's tokens, or leave it out."
                )
            made.append(
                Search(
                    label=label,
                    stage=use.stage,
                    config=use.config,
                    experiment=name,
                    objectives=tuple(str(objective) for objective in objectives),
                    tokens=tokens,
                    match_repetition=matched,
                )
            )
        for experiment in experiments:
            for search in experiment.searches:
                if search not in written:
                    self.problems.append(
                        f"experiments.{experiment.label}.mixture.search: no search is named '{search}'.{suggest(search, written)}"
                    )
        return made

    def selection(
        self, base: Any, override: Mapping[str, Any], columns: Mapping[str, Any], scorers: list[Use]
    ) -> Selection | None:
        """The base's section with an experiment's changes; null there takes it away."""
        item = override.get("selection", base)
        if isinstance(base, Mapping) and isinstance(item, Mapping):
            item = {**base, **item}
        if item is None:
            return None
        resolved = dict(item) if isinstance(item, Mapping) else item
        for key in ("column", "by"):
            if isinstance(item, Mapping) and isinstance(item.get(key), str):
                column = resolve_column(item[key], scorers)
                if column is None or column not in columns:
                    self.unknown_column("selection", item[key], column, columns, scorers)
                    return None
                resolved[key] = column
        use = self.use("selector", "selection", "selection", resolved)
        if use is None:
            return None
        self.types("selection", use, columns)
        return Selection(label=use.label, stage=use.stage, config=use.config, reads=use.stage.reads_for(use.config))

    def mixture(self, where: str, item: Any, columns: Mapping[str, Any]) -> Mixture | None:
        if isinstance(item, Mapping) and isinstance(item.get("by"), str):
            item = {**item, "by": [item["by"]]}
        own = self.take(where, item, {"by": list, "best_first": str})
        use = self.use("mixer", where, "mixture", item, leave_out=("by", "best_first"), check_label=False)
        if own is None or use is None:
            return None
        by = [str(name) for name in own.get("by", ["source"])]
        texts = [name for name, kind in columns.items() if is_text(kind)]
        for name in by:
            if name not in texts and not self.is_of_broken(name):
                self.problems.append(f"{where}.by: no column of texts is named '{name}'.{suggest(name, texts)}")
        if len(set(by)) < len(by):
            self.problems.append(f"{where}.by: a column stands there twice ({', '.join(by)}). Each counts once.")
        if not by:
            self.problems.append(f"{where}.by: a column of texts is meant, or a list of some.{suggest('', texts)}")
        best = own.get("best_first")
        numbers = [name for name, kind in columns.items() if is_number(kind)]
        if best is not None and best not in numbers and not self.is_of_broken(best):
            self.problems.append(f"{where}.best_first: no column of numbers is named '{best}'.{suggest(best, numbers)}")
        return Mixture(label="mixture", stage=use.stage, config=use.config, by=tuple(by), best_first=best)

    def rules(self, label: str, item: Any, columns: Mapping[str, Any], scorers: list[Use]) -> list[Rule]:
        where = f"filters.{label}"
        self.label(where, label)
        if isinstance(item, Mapping) and "preset" in item:
            return self.preset(where, label, item, columns, scorers)
        rule = self.rule(where, label, item, columns, scorers)
        return [rule] if rule else []

    def preset(
        self, where: str, label: str, item: Mapping[str, Any], columns: Mapping[str, Any], scorers: list[Use]
    ) -> list[Rule]:
        self.known_keys(where, item, ("preset", "rules", "scorers"))
        found = self.found_preset(where, item["preset"])
        own = self.preset_scorers(where, item, found.get("scorers") or {}, scorers) if found else None
        if found is None or own is None:
            return []
        rules = dict(found["rules"])
        for name, change in (item.get("rules") or {}).items():
            if name not in rules:
                self.problems.append(
                    f"{where}.rules: preset {item['preset']} has no rule '{name}'.{suggest(name, rules)}"
                )
            elif change is None:
                del rules[name]
            else:
                rules[name] = {**rules[name], **change}
        made = [self.rule(f"{where}.{name}", f"{label}.{name}", rule, columns, own) for name, rule in rules.items()]
        return _present(made)

    def found_preset(self, where: str, name: Any) -> Mapping[str, Any] | None:
        """A preset that ships, by its name, or one of the recipe's own, by the path of its file."""
        try:
            return find_preset(name, self.folder)
        except RecipeError as error:
            self.problems += [f"{where}.preset: {problem}" for problem in error.problems]
            return None

    def preset_scorers(
        self, where: str, item: Mapping[str, Any], needs: Mapping[str, Any], scorers: list[Use]
    ) -> list[Use] | None:
        """The scorers a preset's rules mean: of each stage the one whose settings its thresholds hold for."""
        asked = item.get("scorers") or {}
        if not isinstance(asked, Mapping):
            self.problems.append(f"{where}.scorers: a map of stage to label is meant, this is {_kind(asked)}.")
            return None
        labels = [use.label for use in scorers]
        wrong = [
            f"{where}.scorers.{s}: no scorer is labelled '{v}'.{suggest(str(v), labels)}"
            for s, v in asked.items()
            if v not in labels and v not in self.broken
        ]
        missing, known, chosen = [], True, [use for use in scorers if use.stage.name not in {*needs, *asked}]
        for stage in dict.fromkeys([*needs, *asked]):
            settings = needs.get(stage) or {}
            fitting = [
                use
                for use in scorers
                if use.stage.name == stage
                and asked.get(stage, use.label) == use.label
                and all(use.config.model_dump(mode="json").get(key) == value for key, value in settings.items())
            ]
            if len(fitting) > 1:
                names = ", ".join(use.label for use in fitting)
                wrong.append(f"{where}: {stage} could be {names}. Choose: scorers: {{{stage}: {fitting[0].label}}}.")
            elif not fitting and (asked.get(stage) in self.broken or self.may_be_broken(stage)):
                known = False
            elif not fitting:
                label = next(
                    (
                        f"{stage}_{n}" if n else stage
                        for n in ("", *range(2, 99))
                        if (f"{stage}_{n}" if n else stage) not in labels
                    ),
                    stage,
                )
                missing.append(f"{label}: {_flow({'use': stage, **settings})}")
            chosen += fitting
        if missing:
            wrong.append(
                f"{where}: the thresholds of preset {item['preset']} hold for scorers this recipe does not have. "
                f"Add under scorers: {'; '.join(missing)}."
            )
        self.problems += wrong
        return None if wrong or not known else chosen

    def rule(self, where: str, label: str, item: Any, columns: Mapping[str, Any], scorers: list[Use]) -> Rule | None:
        own = self.take(where, item, {"source": str})
        if own is None:
            return None
        resolved = dict(item)
        for key in ("column", "by"):
            if isinstance(item.get(key), str):
                column = resolve_column(item[key], scorers)
                if column is None or column not in columns:
                    self.unknown_column(where, item[key], column, columns, scorers)
                    return None
                resolved[key] = column
        use = self.use("filter", where, label, resolved, leave_out=("source",), check_label=False)
        if use is None:
            return None
        reads = tuple(name for name in use.stage.reads_for(use.config) if name != "doc_id")
        for name in reads:
            if name not in columns and not self.is_of_broken(name):
                self.problems.append(
                    f"{where}: filter {use.stage.name}@{use.stage.version} reads '{name}', which no stage writes."
                    f"{suggest(name, columns)}"
                )
        self.types(where, use, columns)
        return Rule(label=label, stage=use.stage, config=use.config, reads=reads, source=own.get("source", ""))

    def unknown_column(
        self, where: str, asked: str, column: str | None, columns: Mapping[str, Any], scorers: list[Use]
    ) -> None:
        """Report a column that is not there, unless what would write it is in error itself."""
        if column is not None:
            if not self.is_of_broken(column):
                self.problems.append(f"{where}: reads '{asked}', which no stage writes.{suggest(column, columns)}")
            return
        stage = asked.split(".")[0]
        labels = [use.label for use in scorers if use.stage.name == stage]
        if len(labels) > 1:
            self.problems.append(
                f"{where}: '{asked}' could be of {', '.join(labels)}; write the label's column, such as '{labels[0]}_…'."
            )
        elif not self.may_be_broken(stage):
            self.problems.append(
                f"{where}: reads '{asked}', but no scorer uses {stage}. Add one: scorers: {{words: {{use: {stage}}}}}."
            )

    def types(self, where: str, use: Use, columns: Mapping[str, pa.DataType]) -> None:
        """Report columns of a type that the stage does not take, with those of the recipe that it does."""
        for name, refusal in use.stage.takes_for(use.config):
            why = refusal(name, columns[name]) if name in columns else ""
            if why:
                fitting = [other for other, kind in columns.items() if not refusal(other, kind)]
                self.problems.append(f"{where}: {why}{_alike(name, fitting)}")

    def is_of_broken(self, column: str) -> bool:
        return any(column.startswith(f"{label}_") for label in self.broken)

    def may_be_broken(self, stage: str) -> bool:
        """Whether a scorer that is in error could be the one of this stage."""
        return any(meant in (stage, None) for meant in self.broken.values())

    # --- pieces

    def use(
        self, kind: str, where: str, label: str, item: Any, *, leave_out: tuple[str, ...] = (), check_label: bool = True
    ) -> Use | None:
        if check_label:
            self.label(where, label)
        if not isinstance(item, Mapping) or not isinstance(item.get("use"), str):
            self.problems.append(f"{where}: 'use' must name a {kind}.{suggest('', [s.name for s in stages(kind)])}")
            return None
        try:
            stage = find_stage(kind, item["use"])
        except FactoryError as error:
            self.problems.append(f"{where}.use: {error}")
            return None
        settings = {key: value for key, value in item.items() if key != "use" and key not in leave_out}
        config, found = self.aside(lambda: self.values(stage.config, where, settings))
        known = stage.config.model_fields
        for key in settings:  # beside its settings, every use of the stage takes these
            refused = f"{where}.{key}: unknown key '{key}'."
            full = refused + suggest(str(key), ("use", *leave_out, *known))
            found = [full if problem == refused + suggest(str(key), known) else problem for problem in found]
        self.problems += found
        return Use(label=label, stage=stage, config=config) if config is not None else None

    def values(self, model: type[BaseModel], where: str, settings: Mapping[str, Any]) -> Any:
        try:
            return model(**settings)
        except ValidationError as error:
            self.problems += config_problems(where, error, model)
        except TypeError as error:
            self.problems.append(f"{where}: {error}.")
        return None

    def take(self, where: str, item: Any, own: Mapping[str, type]) -> dict[str, Any] | None:
        if not isinstance(item, Mapping):
            self.problems.append(f"{where}: a map with 'use' is meant, this is {_kind(item)}.")
            return None
        taken = {}
        for key, kind in own.items():
            if key in item and item[key] is not None:
                if not isinstance(item[key], kind) or (isinstance(item[key], bool) and kind is not bool):
                    such = item[key] if isinstance(item[key], str) else "…"
                    meant = f"a list is meant, such as [{such}]" if kind is list else f"{kind.__name__} is meant"
                    meant = "true or false is meant" if kind is bool else meant
                    self.problems.append(f"{where}.{key}: {meant} (got {item[key]!r}).")
                    return None
                taken[key] = item[key]
        return taken

    def section(self, data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        value = data.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.problems.append(f"{name}: a map is meant, this is {_kind(value)}.")
            return {}
        return {str(key): item for key, item in value.items()}

    def sequence(self, data: Mapping[str, Any], name: str) -> list[Any]:
        value = data.get(name)
        if value is not None and not isinstance(value, list):
            self.problems.append(f"{name}: a list is meant, this is {_kind(value)}.")
            return []
        return value or []

    def known_keys(self, where: str, item: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in item:
            if key not in known:
                self.problems.append(f"{where}: unknown key '{key}'.{suggest(str(key), known)}")

    def label(self, where: str, label: str) -> None:
        if not LABEL.fullmatch(label):
            self.problems.append(
                f"{where}: labels are small letters, digits and _, starting with a letter, not '{label}'."
            )


def merge_filters(base: Mapping[str, Any], changed: Mapping[str, Any] | None) -> dict[str, Any]:
    """An experiment's filters: none given keeps the base's, an empty map has none, a map adds, replaces and (null) removes."""
    if changed is None:
        return dict(base)
    if not changed:
        return {}
    return {key: value for key, value in {**base, **changed}.items() if value is not None}


def _override(base: Any, changed: Any) -> Any:
    """A mixture with changes; where another mixer is named, only what all mixers have is kept of the base."""
    if not isinstance(base, Mapping) or not isinstance(changed, Mapping):
        return base if changed is None else changed
    if changed.get("use", base.get("use")) != base.get("use"):
        base = {key: value for key, value in base.items() if key in MIXTURE_KEYS}
    return {**base, **changed}


def _override_map(base: Any, changed: Any) -> dict[str, Any]:
    """Settings with changes; `overrides` of both hold."""
    base, changed = base if isinstance(base, Mapping) else {}, changed if isinstance(changed, Mapping) else {}
    both = {**base, **changed}
    if isinstance(base.get("overrides"), Mapping) and isinstance(changed.get("overrides"), Mapping):
        both["overrides"] = {**base["overrides"], **changed["overrides"]}
    return both


def _place(where: str, section: str, override: Mapping[str, Any]) -> str:
    """Where a section that an override replaces whole was written."""
    return f"{where}.{section}" if section in override else section


def _unquoted(problem: str) -> str:
    """A problem without what it quotes, which is the whole section where it is of several keys together."""
    return problem.partition(" (got ")[0]


def available_columns(scorers: list[Use], linkers: list[LinkerUse]) -> dict[str, Any]:
    """Every column a rule can read: of the documents, of each scorer and of each linker."""
    columns: dict[str, Any] = {
        name: DOCUMENT.field(name).type for name in DOCUMENT.names if name not in ("text", "error")
    }
    for use in scorers:
        columns.update(use.columns)
    for linker in linkers:
        columns.update(linker.columns)
    return columns


def _elects(stage: Any) -> bool:
    """Whether the linker of this name elects documents; a name that no linker has is reported elsewhere."""
    try:
        return find_stage("linker", str(stage)).links == "documents"
    except FactoryError:
        return True


def _meant(kind: str, item: Any) -> str | None:
    """The stage somebody meant who wrote this: its name, or the name most like it."""
    asked = item.get("use") if isinstance(item, Mapping) else None
    near = difflib.get_close_matches(str(asked), [stage.name for stage in stages(kind)], n=1)
    return near[0] if near else None


def _alike(name: str, columns: list[str]) -> str:
    """Columns that would do, those with the most like names first."""
    if not columns:
        return " The recipe has no such column."
    ranked = sorted(columns, key=lambda other: (-difflib.SequenceMatcher(None, name, other).ratio(), other))
    more = f" and {len(ranked) - MOST_NAMED} more" if len(ranked) > MOST_NAMED else ""
    return f" Columns that fit: {', '.join(ranked[:MOST_NAMED])}{more}."


def resolve_column(name: str, scorers: list[Use]) -> str | None:
    """`stage.column` of a preset as the recipe's own column; None when no scorer, or more than one, uses that stage."""
    stage, dot, column = name.partition(".")
    if not dot:
        return name
    labels = [use.label for use in scorers if use.stage.name == stage]
    return f"{labels[0]}_{column}" if len(labels) == 1 else None


def find_preset(name: Any, folder: str) -> Mapping[str, Any]:
    """The preset of this name, or in the file at this path below `folder`; raises RecipeError when there is no such one."""
    if isinstance(name, str) and name.endswith((".yaml", ".yml")):
        return _own_preset(os.path.join(folder, name), name)
    known = presets()
    if not isinstance(name, str) or name not in known:
        alike = [item for item in known if "/" not in item or str(name).startswith(item.split("/")[0])]
        raise RecipeError(
            [
                f"no preset is named '{name}'.{suggest(str(name), alike)} A file of your own is named by its path: ./own.yaml."
            ]
        )
    found: Mapping[str, Any] = known[name]
    return found


def _own_preset(path: str, name: str) -> Mapping[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            data = read_yaml(stream.read(MAX_BYTES + 1), name)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(
            [f"{path} cannot be read as text: {error}. Correct the path; it starts at the recipe."]
        ) from error
    rules = data.get("rules") if isinstance(data, Mapping) else None
    if not isinstance(rules, Mapping) or not rules or not all(isinstance(rule, Mapping) for rule in rules.values()):
        raise RecipeError([f"{name} holds no rules. A preset is a map with `rules`: a map of label to rule."])
    problems = [
        f"{name}: unknown key '{key}'.{suggest(str(key), PRESET_SECTIONS)}"
        for key in data
        if key not in PRESET_SECTIONS
    ]
    problems += [
        f"{name}: rules.{label}: labels are small letters, digits and _, starting with a letter."
        for label in rules
        if not isinstance(label, str) or not LABEL.fullmatch(label)
    ]
    scorers = data.get("scorers") or {}
    if not isinstance(scorers, Mapping) or not all(isinstance(item or {}, Mapping) for item in scorers.values()):
        problems.append(f"{name}: `scorers` is a map of stage to the settings its thresholds hold for.")
    if problems:
        raise RecipeError(problems)
    found: Mapping[str, Any] = data
    return found


@cache
def presets() -> dict[str, Any]:
    """Every preset that ships: name to its content. Those of a family, such as one for each language, are family/name."""
    folder = resources.files("factory") / "presets"
    families = [item for item in folder.iterdir() if item.is_dir()]
    files = {item.name: item for item in folder.iterdir()}
    files.update({f"{family.name}/{item.name}": item for family in families for item in family.iterdir()})
    return {
        name.removesuffix(".yaml"): read_yaml(item.read_text("utf-8"), name)
        for name, item in sorted(files.items())
        if name.endswith(".yaml")
    }


def _flow(settings: Mapping[str, Any]) -> str:
    """Settings as one writes them in a line of YAML."""
    plain = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in settings.items()
    }
    return "{" + ", ".join(f"{key}: {value}" for key, value in plain.items()) + "}"


def _present(items: list[Any]) -> list[Any]:
    return [item for item in items if item is not None]


def _kind(value: Any) -> str:
    return {
        list: "a list",
        str: "text",
        int: "a number",
        float: "a number",
        bool: "true or false",
        type(None): "empty",
    }.get(type(value), type(value).__name__)
