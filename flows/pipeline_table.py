"""The pipeline as tables: its components in order, and what separates two sets of parameters."""

from msgspec import to_builtins

from operators.parameters import Parameters
from operators.pipeline.components import components
from operators.presets import differences
from operators.visibility import DEFAULT, VisibilityRules


def component_rows(
    parameters: Parameters, visibility: VisibilityRules = DEFAULT, feed: str = "for_you"
) -> list[dict[str, str]]:
    """Return a row for each component of a feed in the order in which it runs."""
    return [
        {
            "stage": one.stage,
            "component": one.name,
            "": "on" if one.runs(parameters) else "off",
            "rule": one.rule,
            "parameters": ", ".join(f"{name}={value_of(parameters, name)}" for name in one.reads),
            "x-algorithm.md": one.origin,
        }
        for one in components(parameters, visibility, feed)
    ]


def difference_rows(one: Parameters, other: Parameters, names: tuple[str, str]) -> list[dict[str, str]]:
    """Return a row for each component that only one runs, then one for each parameter that differs."""
    runs = [{(each.stage, each.name): each.runs(of) for each in components(of)} for of in (one, other)]
    keys = list(dict.fromkeys([*runs[0], *runs[1]]))
    rows = [
        {"what": f"{stage} {name}", names[0]: _said(runs[0].get(key)), names[1]: _said(runs[1].get(key))}
        for key in keys
        if runs[0].get(key, False) != runs[1].get(key, False)
        for stage, name in (key,)
    ]
    switches = {each.switch for of in (one, other) for each in components(of)}
    rows += [
        {"what": name, names[0]: str(to_builtins(values[0])), names[1]: str(to_builtins(values[1]))}
        for name, values in differences(one, other).items()
        if name not in switches
    ]
    return rows


def value_of(parameters: Parameters, name: str) -> object:
    """Return the value of a parameter by its dotted name."""
    section, _, field = name.partition(".")
    return to_builtins(getattr(getattr(parameters, section), field))


def _said(runs: bool | None) -> str:
    return "on" if runs else "off"
