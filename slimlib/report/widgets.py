"""Sliders and menus that choose the arguments of a public function, and do nothing else.

The result is an output of its own, which a choice replaces. So it stands there, for the first
choice, without ipywidgets, and without a kernel: in a saved copy, on GitHub, in a page of
nbconvert. Colab alone gets an Output widget, the one way that is sure to be redrawn there.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from slimlib.common.picture import Output, Picture, described

WIDGET = "application/vnd.jupyter.widget-view+json"
Options = range | Sequence[Any] | Mapping[str, Any] | bool | str


class Choice:
    """What a function gives for the arguments that are chosen; see `choose`."""

    def __init__(self, function: Callable[..., Any], choices: Mapping[str, Options]) -> None:
        self.function, self.choices = function, dict(choices)
        self.chosen = {
            name: _first(function, name, options) for name, options in self.choices.items()
        }
        self.controls = _controls(self.choices, self.chosen)
        self._handles: list[Any] = []
        for name, control in self.controls.items():
            control.observe(lambda change, name=name: self._choose(name, change["new"]), "value")

    def result(self) -> Any:
        """What the function returns for the arguments that are chosen now."""
        return self.function(**self.chosen)

    def set(self, **values: Any) -> None:
        """Choose by name, as the controls do.

        Raises:
            ValueError: a name or value that is not among the choices.
        """
        for name, value in values.items():
            if name not in self.choices:
                raise ValueError(f"no choice {name!r}; there are {', '.join(self.choices)}")
            _check(name, value, self.choices[name])
            if name in self.controls:
                self.controls[name].value = value
            else:
                self._choose(name, value)

    def _choose(self, name: str, value: Any) -> None:
        self.chosen[name] = value
        if self._handles:
            self._redraw()

    def _redraw(self) -> None:
        for handle, (data, metadata) in zip(self._handles, self._outputs(), strict=False):
            handle.update(data, metadata=metadata, raw=True)

    def _outputs(self) -> list[Output]:
        """Always two, so that each place has something new: a figure's sentence, or nothing."""
        try:
            outputs = outputs_of(self.result())
        except ValueError as error:  # a choice that does not go: said in the picture's place
            outputs = [({"text/plain": str(error)}, {})]
        return [*outputs, ({"text/plain": ""}, {})][:2]

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if self.controls and "google.colab" in sys.modules:
            self._display_in_colab()
            return
        if self.controls:
            display(_view(_box(self.controls), self._words()), raw=True)
        self._handles = [
            display(data, metadata=metadata, raw=True, display_id=True)
            for data, metadata in self._outputs()
        ]

    def _display_in_colab(self) -> None:
        from IPython.display import display
        from ipywidgets import Output as Place

        self._handles = [_Redrawn(Place()) for _ in range(2)]
        display(_view(_box(self.controls), self._words()), raw=True)
        for handle, (data, metadata) in zip(self._handles, self._outputs(), strict=True):
            display(_view(handle.place, "") | data, metadata=metadata, raw=True)
        self._redraw()

    def _words(self) -> str:
        return ", ".join(
            f"{name} = {_label(self.choices[name], value)}" for name, value in self.chosen.items()
        )

    def __repr__(self) -> str:
        return f"{_called(self.function)}({self._words()})"


def choose(function: Callable[..., Any], **choices: Options) -> Choice:
    """Show what a function returns, with a control for each argument to choose.

    Args:
        function: public, and complete without a control: all its other arguments have defaults
            (or are bound by functools.partial). It returns a `Picture`, a matplotlib Axes or
            Figure, or anything that a notebook shows.
        **choices: its argument -> a range (a slider), a list or label -> value (a menu), True or
            False (a tick), or a string (a text field). The first choice is the function's own
            default where that is offered, and otherwise the first one.

    Returns:
        To end a cell with. Without ipywidgets it shows the function's result for the first choice;
        `.set(r=8)` chooses by hand, `.result()` is the function's result.

    Example:
        >>> slimlib.choose(slimlib.count_parameters, shape=["micro", "LLaMA-7B"],
        ...                adapter={"r = 8": slimlib.AdapterConfig(r=8)}).result()
        110592

    Raises:
        ValueError: nothing to choose from, or an argument that the function does not take.
    """
    return Choice(function, choices)


def outputs_of(result: Any) -> list[Output]:
    """What a notebook shows of a result, by kinds: a figure as an image, once."""
    from IPython.core.formatters import DisplayFormatter

    if isinstance(result, Picture):
        return result.outputs()
    figure = getattr(result, "figure", result)  # of an Axes
    if hasattr(figure, "savefig"):
        titles = [figure.get_suptitle(), *(ax.get_title() for ax in figure.axes)]
        return described(figure, "; ".join(filter(None, titles))).outputs()[:1]
    return [DisplayFormatter().format(result)]


# --------------------------------------------------------------------------------------- controls


def _first(function: Callable[..., Any], name: str, options: Options) -> Any:
    """The value that is chosen before anybody chooses."""
    taken = inspect.signature(function).parameters
    if name not in taken and not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        raise ValueError(f"{_called(function)} takes no {name!r}; it takes {', '.join(taken)}")
    if isinstance(options, bool | str):
        return options
    values = [*(options.values() if isinstance(options, Mapping) else options)]
    if not values:
        raise ValueError(f"{name}: nothing to choose from")
    default = taken[name].default if name in taken else inspect.Parameter.empty
    return default if any(value is default or value == default for value in values) else values[0]


def _called(function: Callable[..., Any]) -> str:
    """A function's name; of a partial, that of the whole function."""
    return getattr(getattr(function, "func", function), "__name__", "function")


def _label(options: Options, value: Any) -> str:
    """A choice as its menu shows it."""
    pairs = options.items() if isinstance(options, Mapping) else ()
    return next((label for label, offered in pairs if offered is value), str(value))


def _check(name: str, value: Any, options: Options) -> None:
    if isinstance(options, bool | str):
        if type(value) is not type(options):
            raise ValueError(f"{name}={value!r}: must be a {type(options).__name__}")
        return
    offered = [*(options.values() if isinstance(options, Mapping) else options)]
    if value not in offered:
        shown = [*options] if isinstance(options, Mapping) else offered
        raise ValueError(f"{name}={value!r} is not offered: {', '.join(map(str, shown))}")


def _controls(choices: Mapping[str, Options], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """A control for each argument; none where ipywidgets is not installed."""
    try:
        import ipywidgets
    except ImportError:
        return {}
    controls = {}
    for name, options in choices.items():
        common = {"description": name.replace("_", " "), "value": chosen[name]}
        if isinstance(options, bool):
            control = ipywidgets.Checkbox(**common)
        elif isinstance(options, str):
            control = ipywidgets.Text(**common, continuous_update=False)
        elif isinstance(options, range) and len(options) > 1:
            ends = {"min": options[0], "max": options[-1], "step": options.step}
            control = ipywidgets.IntSlider(**common, **ends, continuous_update=False)
        else:
            pairs = options.items() if isinstance(options, Mapping) else options
            control = ipywidgets.Dropdown(**common, options=[*pairs])
        control.style.description_width = "initial"
        controls[name] = control
    return controls


def _box(controls: Mapping[str, Any]) -> Any:
    from ipywidgets import VBox

    return VBox([*controls.values()])


def _view(widget: Any, text: str) -> dict[str, Any]:
    """A widget as an output, with words for where it cannot be drawn (7.7 and 8 alike)."""
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {WIDGET: view, "text/plain": text}


class _Redrawn:
    """An Output widget with the one method of a display's handle."""

    def __init__(self, place: Any) -> None:
        self.place = place

    def update(self, data: Any, **how: Any) -> None:
        from IPython.display import display

        self.place.clear_output(wait=True)
        with self.place:
            display(data, **how)
