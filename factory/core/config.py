"""Settings of a stage: frozen values that refuse what they do not know."""

from pydantic import BaseModel, ConfigDict, ValidationError

from factory.core.errors import suggest


class Config(BaseModel):
    """Base of every stage's settings. Everything in it decides the output and is part of the fingerprint."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def config_problems(where: str, error: ValidationError, config: type[BaseModel]) -> list[str]:
    """One readable line for each thing pydantic refused; `where` is the place in the recipe."""
    problems = []
    for item in error.errors():
        path = ".".join([where, *(str(step) for step in item["loc"])])
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            problems.append(f"{path}: unknown key '{key}'.{suggest(key, config.model_fields)}")
        elif item["type"] == "missing":
            problems.append(f"{path}: a value is required and none is given.")
        else:
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{path}: {message} (got {item['input']!r:.80}).")
    return problems
