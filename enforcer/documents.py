"""Reading an API object without trusting its shape: every oddity becomes a problem with its path."""

from collections.abc import Callable, Collection, Mapping

from enforcer.errors import PolicyError

Problems = list[PolicyError]

Check = Callable[[str], str | None]
"""Says what is wrong with a value, as the end of a sentence that starts with the value; None = nothing."""


def as_mapping(
    value: object,
    path: str,
    problems: Problems,
    *,
    known: Collection[str] | None = None,
    required: bool = False,
) -> Mapping[str, object]:
    """A mapping's content; null is an empty one unless `required`. Fields outside `known` are problems:
    dropping a condition that we do not know would widen the rule."""
    if value is None and not required:
        return {}
    if not isinstance(value, Mapping):
        problems.append(PolicyError(path, f"{quote(value)} is not an object"))
        return {}
    for name in value:
        if known is not None and name not in known:
            problems.append(PolicyError(f"{path}.{name}", "is not a known field"))
    return value


def as_list(value: object, path: str, problems: Problems) -> list[object]:
    if value is None:
        return []
    if not isinstance(value, list):
        problems.append(PolicyError(path, f"{quote(value)} is not a list"))
        return []
    return value


def as_strings(value: object, path: str, check: Check, problems: Problems) -> tuple[str, ...]:
    """The list's strings that pass the check; each of the others is a problem."""
    good = []
    for index, item in enumerate(as_list(value, path, problems)):
        wrong: str | None
        if not isinstance(item, str):
            wrong = "is not a string"
        elif not item:
            wrong = "is empty"
        else:
            wrong = check(item)
        if wrong:
            problems.append(PolicyError(f"{path}[{index}]", f"{quote(item)} {wrong}"))
        else:
            good.append(str(item))
    return tuple(good)


def read_selector(spec: Mapping[str, object], problems: Problems) -> Mapping[str, str] | None:
    """The labels that `spec.selector` asks for; None where there is no selector, or no readable one."""
    if spec.get("selector") is None:
        return None
    before = len(problems)
    selector = as_mapping(spec["selector"], "spec.selector", problems, known=("matchLabels",))
    path = "spec.selector.matchLabels"
    labels = as_mapping(selector.get("matchLabels"), path, problems)
    for key, value in labels.items():
        where = f"{path}[{key}]"
        if not key:
            problems.append(PolicyError(path, "a label has an empty key"))
        elif not isinstance(value, str):
            problems.append(PolicyError(where, f"{quote(value)} is not a string"))
        elif "*" in key or "*" in value:
            problems.append(PolicyError(where, f"{quote(value)} has a wildcard; labels are matched exactly"))
    return {key: str(value) for key, value in labels.items()} if len(problems) == before else None


def quote(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else "null" if value is None else str(value)
