"""Skill-It: more of the domains that are not learned yet, and of those that others depend on, round by round (2307.14430).

What is learned, and what depends on what, is measured on held-out sequences of the domains within one training: see
`factory.mixing.skill_it`. The finding is the average of the shares over that training, where it holds when trained on anew.
"""

from factory.core.registry import register
from factory.core.search import Searcher
from factory.mixing.skill_it import SkillItSettings
from factory.stages.searchers.changing import ChangingSearch, Confirmed


class SkillIt(SkillItSettings, Confirmed):
    """The settings of the method, and of the trainings that confirm what it found."""


@register("skill_it", version=1, config=SkillIt)
def skill_it(config: SkillIt) -> Searcher:
    return ChangingSearch(config, "skill_it", config.model_dump(mode="json", include=set(SkillItSettings.model_fields)))
