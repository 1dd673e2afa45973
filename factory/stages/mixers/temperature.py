"""Domains by their size to the power of 1 / temperature: 1 is natural, and the higher, the nearer to uniform.

p_i is proportional to (N_i / sum N)^(1 / temperature), as in mT5 (arXiv:2010.11934; 3.33 there, 2 in RegMix and WebOrganizer).
Where domains are named `source/topic`, sources can have one temperature and the topics within each source another:
p(source) * p(topic | source), as the generator of Olmix has it (arXiv:2602.12237).
"""

from collections.abc import Callable, Mapping

from pydantic import Field, model_validator

from factory.core.errors import FactoryError
from factory.core.mixture import Budget, check_not_empty, epochs_of
from factory.core.registry import register
from factory.mixing.shares import tempered, tempered_by_parent


class Temperature(Budget):
    """`temperature` for all domains, or `source_temperature` and `topic_temperature` (1 where only the other is given)."""

    temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    source_temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    topic_temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_one_or_the_other(self) -> "Temperature":
        if (self.temperature is None) == (self.source_temperature is None and self.topic_temperature is None):
            raise ValueError("either `temperature`, or `source_temperature` and `topic_temperature` are meant")
        return self


@register("temperature", version=1, config=Temperature)
def temperature(config: Temperature) -> Callable[[Mapping[str, int]], dict[str, float]]:
    def mix(available: Mapping[str, int]) -> dict[str, float]:
        check_not_empty(config.tokens, available)
        if config.temperature is not None:
            return epochs_of(tempered(available, config.temperature), available, config)
        single = sorted(domain for domain in available if "/" not in domain)
        if single:
            raise FactoryError(
                f"mix: '{single[0]}' has no source and topic; domains named 'source/topic' are meant. Give `mixture.by` two "
                "columns, such as [source, topic_label], or one `temperature`."
            )
        by_source, by_topic = config.source_temperature or 1.0, config.topic_temperature or 1.0
        return epochs_of(tempered_by_parent(available, by_source, by_topic), available, config)

    return mix
