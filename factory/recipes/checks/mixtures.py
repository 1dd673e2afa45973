"""The sections `mixture`, `phases`, `packing` and `conditioning`: what is read, and in which order."""

from collections.abc import Mapping
from typing import Any

from factory.core.columns import is_number, is_text
from factory.core.errors import suggest
from factory.core.schema import DOCUMENT
from factory.recipes.checks.checker import Checker, kind_of
from factory.recipes.checks.overrides import override_mixture
from factory.recipes.recipe import Conditioning, Mixture, Phase, Use


def read_mixture(checker: Checker, where: str, item: Any, columns: Mapping[str, Any]) -> Mixture | None:
    if isinstance(item, Mapping) and isinstance(item.get("by"), str):
        item = {**item, "by": [item["by"]]}
    own = checker.take(where, item, {"by": list, "best_first": str})
    use = checker.use("mixer", where, "mixture", item, leave_out=("by", "best_first"), check_label=False)
    if own is None or use is None:
        return None
    by = [str(name) for name in own.get("by", ["source"])]
    texts = [name for name, kind in columns.items() if is_text(kind)]
    for name in by:
        if name not in texts and not checker.is_of_broken(name):
            checker.report(f"{where}.by: no column of texts is named '{name}'.{suggest(name, texts)}")
    if len(set(by)) < len(by):
        checker.report(f"{where}.by: a column stands there twice ({', '.join(by)}). Each counts once.")
    if not by:
        checker.report(f"{where}.by: a column of texts is meant, or a list of some.{suggest('', texts)}")
    best = own.get("best_first")
    numbers = [name for name, kind in columns.items() if is_number(kind)]
    if best is not None and best not in numbers and not checker.is_of_broken(best):
        checker.report(f"{where}.best_first: no column of numbers is named '{best}'.{suggest(best, numbers)}")
    return Mixture(label="mixture", stage=use.stage, config=use.config, by=tuple(by), best_first=best)


def read_phases(
    checker: Checker, where: str, items: Any, mixture: Mapping[str, Any], mixed: Mixture, columns: Mapping[str, Any]
) -> list[Phase]:
    """The `phases` of an experiment: shares that sum to 1; a phase's mixture is an override of the experiment's."""
    if items is None:
        return []
    place = f"{where}.phases"
    if not isinstance(items, list) or not items:
        checker.report(f"{place}: a list of phases is meant, this is {kind_of(items) if items else 'empty'}.")
        return []
    made: list[Phase] = []
    total = mixed.config.model_dump()["tokens"]
    for number, item in enumerate(items):
        at = f"{place}[{number}]"
        if not isinstance(item, Mapping):
            checker.report(f"{at}: a map with 'share' is meant, this is {kind_of(item)}.")
            return []
        checker.known_keys(at, item, ("name", "share", "mixture", "conditioned"))
        share, label = item.get("share"), str(item.get("name", f"phase_{number + 1}"))
        checker.label(f"{at}.name", label)
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 < share <= 1:
            checker.report(f"{at}.share: a number above 0 and up to 1 is meant (got {share!r}).")
            return []
        changed = item.get("mixture", {})
        if isinstance(changed, Mapping) and "tokens" in changed:
            checker.report(
                f"{at}.mixture.tokens: a phase has its share of the experiment's tokens ({total:,}). Change 'share'."
            )
            return []
        own = override_mixture(mixture, changed)
        if isinstance(own, Mapping):
            own = {**own, "tokens": max(1, round(share * total))}
        phase = read_mixture(checker, f"{at}.mixture", own, columns)
        if phase is None:
            return []
        if (phase.by, phase.best_first) != (mixed.by, mixed.best_first):
            checker.report(
                f"{at}.mixture: the phases of an experiment have the same `by` ({', '.join(mixed.by)}) and `best_first`."
            )
        conditioned = item.get("conditioned")
        if conditioned is not None and not isinstance(conditioned, bool):
            checker.report(f"{at}.conditioned: true or false is meant (got {conditioned!r}).")
            return []
        made.append(Phase(label=label, share=float(share), mixture=phase, conditioned=conditioned))
    if len({phase.label for phase in made}) < len(made):
        checker.report(f"{place}: two phases have the same name.")
    if abs(sum(phase.share for phase in made) - 1) > 1e-6:
        checker.report(f"{place}: shares must sum to 1; these sum to {sum(phase.share for phase in made):.7g}.")
    return made


def read_packing(checker: Checker, where: str, item: Any, columns: Mapping[str, Any]) -> Use | None:
    if item is None:
        return None
    use = checker.use("packer", where, "packing", item, check_label=False)
    for name in use.stage.reads_for(use.config) if use else ():
        if name not in columns:
            checker.report(f"{where}: reads '{name}', which no stage writes.{suggest(name, columns)}")
    return use


def read_conditioning(checker: Checker, where: str, item: Any, columns: Mapping[str, Any]) -> Conditioning | None:
    if item is None:
        return None
    if not isinstance(item, Mapping):
        checker.report(f"{where}: a map with 'column' is meant, this is {kind_of(item)}.")
        return None
    made: Conditioning | None = checker.values(Conditioning, where, item)
    texts = [name for name in DOCUMENT.names if name in columns and is_text(columns[name])]
    if made is not None and made.column not in texts:
        checker.report(
            f"{where}.column: no text column of documents is named '{made.column}'.{suggest(made.column, texts)}"
        )
    return made
