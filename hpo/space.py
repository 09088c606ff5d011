"""Search spaces: which settings are searched, where, under which conditions, and what follows.

A space is made of an agent's configuration. Its fields may say their own ranges
(`morl.search_space.searchable`); a mapping, such as a YAML file holds, changes or adds to them::

    learning_rate: {low: 1e-4, high: 1e-2, log: true}
    hidden: {choices: {small: [64, 64], large: [256, 256]}}
    max_kl: {low: 1e-3, high: 0.1, log: true, when: {variant: cpo}}
    minibatch: {tie: num_envs * rollout_steps // 4}
    clip: null                                    # not searched

Samplers see a space of fixed size: a value whose condition does not hold is drawn all the same
and left unused. So every sampler handles conditions, also those that know no other spaces.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin
from typing import get_type_hints as hints_of

from morl.hpo.expressions import Expression
from morl.hpo.types import Settings, SpaceError
from morl.search_space import SEARCH, SearchRange
from morl.types import MorlError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import Trial

Plain: TypeAlias = bool | int | float | str | None
"""What a storage of trials can hold as the value of a choice."""

Kind = Literal["float", "int", "categorical"]

T = TypeVar("T")

_KEYS = ("type", "low", "high", "log", "choices", "when", "tie")


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One searched setting.

    Attributes:
        name: field of the configuration.
        kind: of values.
        default: the base configuration's value, of a choice its label.
        low: least number; 0 for choices.
        high: greatest number, included; 0 for choices.
        log: whether numbers are spread evenly in their logarithm.
        choices: (label, value) of each choice; empty for numbers.
        when: (field, values that allow this one) of each condition.
    """

    name: str
    kind: Kind
    default: Plain
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[tuple[Plain, Any], ...] = ()
    when: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    @property
    def labels(self) -> tuple[Plain, ...]:
        """Names of the choices, which samplers and storages see."""
        return tuple(label for label, _ in self.choices)

    def value(self, sampled: Plain) -> Any:  # noqa: ANN401 - of any field
        """The configuration's value behind a sampled one.

        Raises:
            SpaceError: if no choice has the label.
        """
        if self.kind == "int":
            return int(sampled)  # type: ignore[arg-type]  # numbers here
        if self.kind == "float":
            return float(sampled)  # type: ignore[arg-type]
        for label, value in self.choices:
            if label == sampled and type(label) is type(sampled):
                return value
        raise SpaceError(f"{self.name} has no choice {sampled!r}: {list(self.labels)}")

    def from_unit(self, place: float) -> Plain:
        """The sampled value at a place of [0, 1), spread as a sampler spreads it."""
        if self.kind == "categorical":
            return self.labels[min(int(place * len(self.choices)), len(self.choices) - 1)]
        margin = 0.5 if self.kind == "int" else 0.0
        low, high = self.low - margin, self.high + margin
        if self.log:
            found = math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
        else:
            found = low + place * (high - low)
        found = min(max(found, self.low), self.high)
        return round(found) if self.kind == "int" else found

    def distribution(self) -> BaseDistribution:
        """The same for Optuna."""
        from optuna import distributions

        if self.kind == "categorical":
            return distributions.CategoricalDistribution(self.labels)
        if self.kind == "int":
            return distributions.IntDistribution(int(self.low), int(self.high), log=self.log)
        return distributions.FloatDistribution(self.low, self.high, log=self.log)

    def suggest(self, trial: Trial) -> Plain:
        """Let Optuna choose."""
        if self.kind == "categorical":
            return trial.suggest_categorical(self.name, self.labels)
        if self.kind == "int":
            return trial.suggest_int(self.name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def record(self) -> dict[str, Any]:
        """As plain data."""
        content: dict[str, Any] = {"type": self.kind, "default": self.default}
        if self.kind == "categorical":
            content["choices"] = {str(label): _plain(value) for label, value in self.choices}
        else:
            content |= {"low": self.low, "high": self.high, "log": self.log}
        if self.when:
            content["when"] = {name: _plain(values) for name, values in self.when}
        return content


@dataclass(frozen=True)
class SearchSpace:
    """What is searched around a base configuration. Make it by `SearchSpace.of`.

    Attributes:
        base: the configuration whose fields are searched; its values are the defaults.
        dimensions: searched fields, in the order of the configuration.
        ties: fields that follow from others.
    """

    base: Any
    dimensions: tuple[Dimension, ...]
    ties: Mapping[str, Expression] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        base: Any,  # noqa: ANN401 - any dataclass
        overrides: Mapping[str, Mapping[str, Any] | None] | None = None,
        *,
        only: Sequence[str] | None = None,
    ) -> SearchSpace:
        """The space that a configuration's fields declare, changed by a mapping.

        A declared range that does not reach the base configuration's own value is widened to it;
        a range of the mapping has to hold it.

        Args:
            base: instance of the agent's configuration.
            overrides: by field: ``low``, ``high``, ``log``, ``choices``, ``when``, ``tie``,
                ``type``; what is given replaces what the field declares. None for a field that
                is not to be searched.
            only: leave out all fields but these (ties stay).

        Raises:
            SpaceError: names the field, and what it and the space disagree about.
        """
        fields = {setting.name: setting for setting in dataclasses.fields(base) if setting.init}
        changes = dict(overrides or {})
        _refuse_unknown((*changes, *(only or ())), fields, base)
        hints = hints_of(type(base))
        dimensions: list[Dimension] = []
        ties: dict[str, Expression] = {}
        for name, setting in fields.items():
            change = changes.get(name, {})
            if change is None:
                continue
            _refuse_unknown_keys(name, change)
            if "tie" in change:
                ties[name] = _tie(name, change)
                continue
            declared: SearchRange | None = setting.metadata.get(SEARCH)
            if (declared is None and not change) or (only is not None and name not in only):
                continue
            dimensions.append(_dimension(name, hints[name], getattr(base, name), declared, change))
        space = cls(base, tuple(dimensions), ties)
        space = replace(space, dimensions=tuple(space._possible()))
        space._check(only or ())
        return space

    @property
    def names(self) -> tuple[str, ...]:
        """Searched fields."""
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def defaults(self) -> dict[str, Plain]:
        """Sampled values that stand for the base configuration."""
        return {dimension.name: dimension.default for dimension in self.dimensions}

    def distributions(self) -> dict[str, BaseDistribution]:
        """The space for Optuna."""
        return {dimension.name: dimension.distribution() for dimension in self.dimensions}

    def from_unit(self, point: Sequence[float]) -> dict[str, Plain]:
        """Sampled values at a point of the unit cube, shape (dimension,)."""
        return {
            dimension.name: dimension.from_unit(float(place))
            for dimension, place in zip(self.dimensions, point, strict=True)
        }

    def settings(self, sampled: Mapping[str, Plain]) -> Settings:
        """Fields that a configuration with these sampled values has: active and tied ones.

        Lists stand for tuples, as in JSON.

        Args:
            sampled: a value of every dimension.

        Raises:
            SpaceError: if a tie cannot be computed or gives what its field cannot hold.
        """
        resolver = _Resolver(self, sampled)
        active = [name for name in self.names if resolver.active(name)]
        return {name: _plain(resolver.value(name)) for name in (*active, *self.ties)}

    def active(self, sampled: Mapping[str, Plain]) -> tuple[str, ...]:
        """Dimensions whose conditions hold."""
        resolver = _Resolver(self, sampled)
        return tuple(name for name in self.names if resolver.active(name))

    def build(self, settings: Settings) -> Any:  # noqa: ANN401 - type of the base
        """The base configuration with these settings.

        Raises:
            SpaceError: if the configuration refuses them; says why.
        """
        hints = hints_of(type(self.base))
        values = {
            name: tuple(value)
            if isinstance(value, list) and _accepts(hints[name], tuple)
            else value
            for name, value in settings.items()
        }
        try:
            return replace(self.base, **values)
        except (MorlError, TypeError, ValueError) as error:
            raise SpaceError(str(error)) from error

    def record(self) -> dict[str, Any]:
        """The space as plain data, for the study's record."""
        content: dict[str, Any] = {
            dimension.name: dimension.record() for dimension in self.dimensions
        }
        return content | {name: {"tie": formula.text} for name, formula in self.ties.items()}

    def _possible(self) -> Iterator[Dimension]:
        """Dimensions whose conditions can hold at all, given what is not searched."""
        moving = {*self.names, *self.ties}
        for dimension in self.dimensions:
            fixed = [(name, values) for name, values in dimension.when if name not in moving]
            for name, _ in dimension.when:
                if not hasattr(self.base, name):
                    raise SpaceError(
                        f"{dimension.name}: its condition names {name!r}"
                        f"{_nearest(name, _field_names(self.base))}"
                    )
            if all(_among(getattr(self.base, name), values) for name, values in fixed):
                yield dimension

    def _check(self, wanted: Iterable[str]) -> None:
        if not self.dimensions:
            raise SpaceError(
                f"nothing to search: no field of {type(self.base).__name__} has a search range; "
                "give some by the space's mapping"
            )
        for name in wanted:
            if name not in self.names and name not in self.ties:
                raise SpaceError(f"{name}: no search range, or its condition never holds")
        for name, formula in self.ties.items():
            for other in formula.names:
                if other not in _field_names(self.base):
                    raise SpaceError(
                        f"{name}: the formula {formula.text!r} names {other!r}"
                        f"{_nearest(other, _field_names(self.base))}"
                    )
        for edge in self._edges():
            self._check_build(edge)

    def _edges(self) -> Iterator[tuple[str, dict[str, Plain]]]:
        """The defaults with one dimension at an end, and all at their ends."""
        for dimension in self.dimensions:
            ends = dimension.labels or (dimension.from_unit(0.0), dimension.from_unit(1.0))
            for end in ends:
                yield dimension.name, self.defaults | {dimension.name: end}
        for place in (0.0, 1.0):
            yield "all searched fields together", self.from_unit([place] * len(self.dimensions))

    def _check_build(self, edge: tuple[str, dict[str, Plain]]) -> None:
        name, sampled = edge
        settings = self.settings(sampled)
        try:
            self.build(settings)
        except SpaceError as error:
            at = f" = {settings[name]!r}" if name in settings else ""
            raise SpaceError(
                f"{name}{at}: the space reaches what the configuration refuses: {error}"
            ) from error


class _Resolver:
    """Values of fields under sampled values, each computed when it is asked for."""

    def __init__(self, space: SearchSpace, sampled: Mapping[str, Plain]) -> None:
        self._space = space
        self._sampled = sampled
        self._dimensions = {dimension.name: dimension for dimension in space.dimensions}
        self._open: list[str] = []

    def active(self, name: str) -> bool:
        """Whether all conditions of a dimension hold."""
        return self._guarded(
            name,
            lambda: all(
                _among(self.value(other), values) for other, values in self._dimensions[name].when
            ),
        )

    def value(self, name: str) -> Any:  # noqa: ANN401 - of any field
        """What a field is worth."""
        formula = self._space.ties.get(name)
        if formula is not None:
            return self._guarded(name, lambda: self._tied(name, formula))
        if name in self._dimensions and self.active(name):
            return self._dimensions[name].value(self._sampled[name])
        return getattr(self._space.base, name)

    def _tied(self, name: str, formula: Expression) -> Any:  # noqa: ANN401 - of any field
        found = formula(self.value)
        hint = hints_of(type(self._space.base))[name]
        if _accepts(hint, float):
            return float(found)
        if _accepts(hint, int):
            if found != int(found):
                raise SpaceError(
                    f"{name} is a whole number, but {formula.text!r} gives {found}; use // or round"
                )
            return int(found)
        return found

    def _guarded(self, name: str, compute: Callable[[], T]) -> T:
        if name in self._open:
            raise SpaceError(f"{' needs '.join([*self._open, name])}: conditions or ties in a ring")
        self._open.append(name)
        try:
            return compute()
        finally:
            self._open.pop()


def _dimension(
    name: str,
    hint: Any,  # noqa: ANN401 - a type
    default: Any,  # noqa: ANN401 - a value of it
    declared: SearchRange | None,
    change: Mapping[str, Any],
) -> Dimension:
    merged = _merged(declared, change)
    when = tuple((other, _listed(values)) for other, values in (merged["when"] or {}).items())
    if merged["choices"] is not None:
        return _categorical(name, hint, default, merged, when)
    return _number(name, hint, default, merged, when, widen=not {"low", "high"} & change.keys())


def _merged(declared: SearchRange | None, change: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of the mapping over those of the field; choices replace a range, and a range choices."""
    merged: dict[str, Any] = {"type": None, "low": None, "high": None, "log": False}
    merged |= {"choices": None, "when": None}
    if declared is not None:
        merged |= vars(declared)
    if "choices" in change:
        merged |= {"low": None, "high": None, "log": False}
    if {"low", "high"} & change.keys():
        merged["choices"] = None
    return merged | dict(change)


def _categorical(
    name: str,
    hint: Any,  # noqa: ANN401 - a type
    default: Any,  # noqa: ANN401 - a value of it
    merged: Mapping[str, Any],
    when: tuple[tuple[str, tuple[Any, ...]], ...],
) -> Dimension:
    if merged["type"] not in (None, "categorical"):
        raise SpaceError(f"{name}: choices make it categorical, but its type says {merged['type']}")
    if merged["low"] is not None or merged["high"] is not None:
        raise SpaceError(f"{name}: give choices or a range, not both")
    choices = _labelled(name, merged["choices"])
    for _, value in choices:
        if not _fits(value, hint):
            raise SpaceError(f"{name}: the choice {value!r} is not {_described(hint)}")
    for label, value in choices:
        if _same(value, default):
            return Dimension(
                name=name, kind="categorical", default=label, choices=choices, when=when
            )
    raise SpaceError(
        f"{name}: the default {_plain(default)!r} is not among the choices "
        f"{[_plain(value) for _, value in choices]}; the first trial runs the defaults"
    )


def _number(
    name: str,
    hint: Any,  # noqa: ANN401 - a type
    default: Any,  # noqa: ANN401 - a value of it
    merged: Mapping[str, Any],
    when: tuple[tuple[str, tuple[Any, ...]], ...],
    *,
    widen: bool,
) -> Dimension:
    kind: Kind = "float" if _accepts(hint, float) else "int"
    if not _accepts(hint, float) and not _accepts(hint, int):
        raise SpaceError(f"{name} is {_described(hint)}: give choices, not a range")
    if merged["type"] not in (None, kind):
        raise SpaceError(f"{name} is {_described(hint)}, but its type says {merged['type']}")
    low, high = (_bound(name, merged, end, kind) for end in ("low", "high"))
    if default is None:
        raise SpaceError(f"{name}: its default is None, which no range holds; give choices")
    if widen:
        low, high = min(low, default), max(high, default)
    if not low < high:
        raise SpaceError(f"{name}: low {low} must be less than high {high}")
    if merged["log"] and low <= 0:
        raise SpaceError(f"{name}: with log, low must be positive, got {low}")
    if not low <= default <= high:
        raise SpaceError(
            f"{name}: the default {default} lies outside {low} to {high}; the first trial runs the "
            "defaults"
        )
    return Dimension(
        name=name,
        kind=kind,
        default=float(default) if kind == "float" else int(default),
        low=low,
        high=high,
        log=bool(merged["log"]),
        when=when,
    )


def _bound(name: str, merged: Mapping[str, Any], end: str, kind: Kind) -> float:
    value = merged[end]
    if value is None:
        raise SpaceError(f"{name}: {end} is missing")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SpaceError(f"{name}: {end} must be a number, got {value!r}")
    if kind == "int" and value != int(value):
        raise SpaceError(f"{name} is a whole number, but its {end} is {value}")
    return int(value) if kind == "int" else float(value)


def _tie(name: str, change: Mapping[str, Any]) -> Expression:
    if len(change) > 1:
        others = ", ".join(sorted(change.keys() - {"tie"}))
        raise SpaceError(f"{name}: a tied value takes no {others}")
    if not isinstance(change["tie"], str):
        raise SpaceError(f"{name}: a tie is a formula in text, got {change['tie']!r}")
    try:
        return Expression(change["tie"])
    except SpaceError as error:
        raise SpaceError(f"{name}: {error}") from error


def _labelled(name: str, choices: Any) -> tuple[tuple[Plain, Any], ...]:  # noqa: ANN401 - checked
    """Label and value of each choice; what is not plain gets a name ("64x64")."""
    if isinstance(choices, Mapping):
        found = [(str(label), value) for label, value in choices.items()]
    elif isinstance(choices, Sequence) and not isinstance(choices, str):
        found = [(_label(value), value) for value in choices]  # type: ignore[misc]
    else:
        raise SpaceError(f"{name}: choices must be a list or a mapping, got {choices!r}")
    labels = [(type(label), label) for label, _ in found]
    if len(found) < 2 or len(set(labels)) < len(labels):
        raise SpaceError(f"{name}: at least two choices, all different; got {_plain(choices)!r}")
    return tuple(found)


def _label(value: Any) -> Plain:  # noqa: ANN401 - any choice
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence):
        return "x".join(str(item) for item in value)
    return str(value)


def _refuse_unknown(names: Iterable[str], known: Iterable[str], base: Any) -> None:  # noqa: ANN401
    fields = list(known)
    for name in names:
        if name not in fields:
            raise SpaceError(
                f"{name!r} is searched, but {type(base).__module__}.{type(base).__qualname__} has "
                f"no such setting{_nearest(name, fields)}"
            )


def _refuse_unknown_keys(name: str, change: Any) -> None:  # noqa: ANN401 - checked here
    if not isinstance(change, Mapping):
        raise SpaceError(
            f"{name}: expected a mapping of {', '.join(_KEYS)}, or null; got {change!r}"
        )
    for key in change:
        if key not in _KEYS:
            raise SpaceError(f"{name}: unknown key {key!r}{_nearest(str(key), _KEYS)}")


def _nearest(word: str, known: Iterable[str]) -> str:
    names = list(known)
    found = difflib.get_close_matches(word, names, n=1)
    return f", did you mean {found[0]!r}?" if found else f"; there are: {', '.join(sorted(names))}"


def _field_names(base: Any) -> list[str]:  # noqa: ANN401 - any dataclass
    return [setting.name for setting in dataclasses.fields(base) if setting.init]


def _listed(values: Any) -> tuple[Any, ...]:  # noqa: ANN401 - one value or several
    return tuple(values) if isinstance(values, list | tuple) else (values,)


def _among(value: Any, values: Iterable[Any]) -> bool:  # noqa: ANN401 - of any field
    return any(_same(value, other) for other in values)


def _same(value: Any, other: Any) -> bool:  # noqa: ANN401 - of any field
    return bool(_plain(value) == _plain(other)) and isinstance(value, bool) == isinstance(
        other, bool
    )


def _fits(value: Any, hint: Any) -> bool:  # noqa: ANN401 - a value and a type
    """Whether a field of this type can hold the value, as far as plain types say."""
    if hint is Any:
        return True
    if get_origin(hint) in (Union, types.UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is type(None):
        return value is None
    kind = get_origin(hint) or hint
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind in (tuple, list) or (isinstance(kind, type) and issubclass(kind, Sequence)):
        plain_text = kind is str
        return isinstance(value, str) if plain_text else isinstance(value, list | tuple)
    return isinstance(value, kind) if isinstance(kind, type) else True


def _accepts(hint: Any, kind: type) -> bool:  # noqa: ANN401 - a type
    if get_origin(hint) in (Union, types.UnionType):
        return any(_accepts(part, kind) for part in get_args(hint))
    return (get_origin(hint) or hint) is kind


def _described(hint: Any) -> str:  # noqa: ANN401 - a type
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return words.get(hint, f"of type {getattr(hint, '__name__', None) or hint}")


def _plain(value: Any) -> Any:  # noqa: ANN401 - of any field
    """Tuples become lists, as in JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
