"""A component's configuration, derived from its `__init__` signature."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from diffkit.arguments import plain, plain_tree
from diffkit.config.spec import ComponentSpec, SpecModel
from diffkit.core.component import Component, arguments_of
from diffkit.core.data import InCode, Supplied
from diffkit.core.run import Run
from diffkit.errors import ComponentError
from diffkit.plugins.host import Host


class Unsaveable(ComponentError):
    """A component instance that no spec can describe."""


@dataclass(frozen=True)
class Signature:
    """What a component takes."""

    model: type[BaseModel]
    """Validates a configuration; a component argument is a `ComponentSpec` there."""
    supplied: Mapping[str, str]
    """The arguments that the pipeline fills in, and with what: a kind or `data.shape`."""
    in_code: tuple[str, ...] = ()
    """The arguments that only code can give, which no file holds."""
    runs: tuple[str, ...] = ()
    """The arguments that are a trained run, whose directory a file holds."""


def signature_of(component: type, host: Host) -> Signature:
    """The signature of a component class.

    Raises:
        ComponentError: `__init__` is not annotated, keyword-only, or of types that JSON can hold.
    """
    fields: dict[str, Any] = {}
    supplied: dict[str, str] = {}
    in_code: list[str] = []
    runs: list[str] = []
    for parameter, annotation in _parameters(component):
        if any(isinstance(extra, InCode) for extra in _extras(annotation)):
            in_code.append(parameter.name)
            continue
        if Run in (annotation, *get_args(annotation)):
            runs.append(parameter.name)
        source = _supplied_by(annotation)
        if source is not None and parameter.default in (inspect.Parameter.empty, None):
            supplied[parameter.name] = source
            annotation, default = annotation | None, None
        else:
            default = _default(parameter, host)
        fields[parameter.name] = (_as_data(annotation), default)
    try:
        model = create_model(component.__name__, __base__=_Configuration, **fields)
    except (PydanticUserError, TypeError, ValueError, NameError) as error:
        raise ComponentError(
            f"{_name(component)}: its arguments have no schema: {str(error).splitlines()[0]}"
        ) from error
    return Signature(model, supplied, tuple(in_code), tuple(runs))


def validated(
    signature: Signature, config: Mapping[str, Any], where: str
) -> tuple[BaseModel | None, list[str]]:
    """The configuration, checked; or what is wrong with it, each with its path."""
    try:
        return signature.model.model_validate_json(as_json(config)), []
    except ValidationError as error:
        return None, explained(error, where, signature.model.model_fields)
    except (ValueError, RecursionError) as error:
        return None, [f"{where}: {error}"]


def as_json(data: Any) -> str:
    """Data as JSON text; scalars of NumPy and torch are numbers. Raises ValueError."""
    tree = plain_tree(data)
    try:
        text = json.dumps(to_jsonable_python(tree), ensure_ascii=False)
    except (PydanticSerializationError, TypeError) as error:
        where, kind = next(_unwritable(tree, ""), ("", str(error)))
        raise ValueError(f"{where} is {kind}".lstrip()) from error
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise ValueError("a text in it holds half of a character (a lone surrogate)")
    return text


def _unwritable(data: Any, where: str) -> Iterator[tuple[str, str]]:
    """Where in data is something that JSON cannot hold, and of which type."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    else:
        try:
            json.dumps(to_jsonable_python(data))
        except (PydanticSerializationError, TypeError, ValueError):
            name = type(data).__name__
            # Torch is not imported for what is no module of its.
            wrapped = any(base.__module__.startswith("torch.nn") for base in type(data).__mro__)
            advice = "; a network of your own is diffkit.wrap(network)" if wrapped else ""
            yield where, f"a {name}, which no file can hold{advice}"
    for key, value in items:
        yield from _unwritable(value, f"{where}.{key}".lstrip("."))


def explained(error: ValidationError, where: str, known: Iterable[str] = ()) -> list[str]:
    """A validation error as sentences with paths; `known` are the keys at the top, with their
    fields where there are keys below them.
    """
    sentences = []
    for detail in error.errors(include_url=False):
        path = ".".join([where, *(str(part) for part in detail["loc"])]).strip(".")
        if detail["type"] == "extra_forbidden":
            keys = ", ".join(_keys_at(detail["loc"][:-1], known))
            sentences.append(f"{path}: there is no such key{keys and f'; the keys are {keys}'}")
        elif detail["type"] == "missing":
            sentences.append(f"{path}: it has to be given")
        else:
            message = detail["msg"][0].lower() + detail["msg"][1:]
            sentences.append(f"{path} = {_short(detail['input'])}: {message}")
    return sentences


def _keys_at(place: Iterable[int | str], known: Iterable[str]) -> Iterable[str]:
    """The keys of what is at this place below `known`; none where that is not a record."""
    for part in place:
        field = known.get(part) if isinstance(known, Mapping) else None
        types = () if field is None else (field.annotation, *get_args(field.annotation))
        models = (t for t in types if isinstance(t, type) and issubclass(t, BaseModel))
        model = next(models, None)
        if model is None:
            return ()
        known = model.model_fields
    return known


def reference_of(component: Component, host: Host, leave_out: Iterable[str] = ()) -> ComponentSpec:
    """The spec that makes this instance again, but for the arguments `leave_out`.

    Arguments that only code can give are left out too.

    Raises:
        Unsaveable: it is not registered, or an argument is not JSON; names the argument.
    """
    entry = host.entry_of(type(component))
    if entry is None:
        raise Unsaveable(
            f"{_name(type(component))} is not registered as a component, so no file can name it; "
            "declare it as an entry point of a package"
        )
    config: dict[str, Any] = {}
    left_out = {*leave_out, *signature_of(type(component), host).in_code}
    for name, value in arguments_of(component).items():
        if name not in left_out:
            config[name] = _value_as_data(value, f"{entry.id}.{name}", host)
    return ComponentSpec(id=entry.id, config=config)


def _value_as_data(value: Any, where: str, host: Host) -> Any:
    if isinstance(value, Component):
        return reference_of(value, host).model_dump(mode="json")
    if isinstance(value, Run):
        if value.directory is None:
            raise Unsaveable(f"{where} is a run in memory; save it, and give Run(its directory)")
        return value.directory
    if isinstance(value, list | tuple):
        return [_value_as_data(item, f"{where}[{i}]", host) for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {str(k): _value_as_data(v, f"{where}.{k}", host) for k, v in value.items()}
    data = plain(value)
    try:
        json.dumps(data, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Unsaveable(
            f"{where} is a {type(value).__name__}, which a file cannot hold; give it as JSON data"
        ) from error
    return data


class _Configuration(SpecModel):
    model_config = ConfigDict(arbitrary_types_allowed=False)


@cache
def _reference_type(kind: str) -> type[ComponentSpec]:
    name = kind.title().replace("-", "")
    return type(f"{name}Spec", (ComponentSpec,), {"kind": kind, "__module__": __name__})


def _parameters(component: type) -> Iterable[tuple[inspect.Parameter, Any]]:
    if component.__init__ is object.__init__:  # type: ignore[misc]
        return
    try:
        hints = get_type_hints(component.__init__, include_extras=True)  # type: ignore[misc]
    except (NameError, TypeError) as error:
        raise ComponentError(
            f"{_name(component)}: the annotations of __init__ cannot be read: {error}; "
            "import their names at run time"
        ) from error
    _, *parameters = inspect.signature(component.__init__).parameters.values()  # type: ignore[misc]
    for parameter in parameters:
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name not in hints:
            if component.__init__.__qualname__ == "Module.__init__":  # type: ignore[misc]
                continue
            raise ComponentError(
                f"{_name(component)}: the argument '{parameter.name}' of __init__ must be "
                "keyword-only (after a '*') and annotated, since it is the configuration"
            )
        yield parameter, hints[parameter.name]


def _supplied_by(annotation: Any) -> str | None:
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return annotation.kind
    for extra in _extras(annotation):
        if isinstance(extra, Supplied):
            return extra.by
    return None


def _extras(annotation: Any) -> tuple[Any, ...]:
    """What an annotation says beside the type."""
    return getattr(annotation, "__metadata__", ())


def _default(parameter: inspect.Parameter, host: Host) -> Any:
    if parameter.default is inspect.Parameter.empty:
        return ...
    if isinstance(parameter.default, Component):
        reference = reference_of(parameter.default, host)
        return _reference_type(parameter.default.kind)(id=reference.id, config=reference.config)
    return parameter.default


def _as_data(annotation: Any) -> Any:
    """The annotation with every component class replaced by its reference."""
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return _reference_type(annotation.kind)
    if annotation is Run:
        return str
    arguments = get_args(annotation)
    origin = get_origin(annotation)
    if not arguments or origin is None:
        return annotation
    if origin is Annotated:
        rest = [extra for extra in annotation.__metadata__ if not isinstance(extra, Supplied)]
        inner = _as_data(arguments[0])
        return Annotated[(inner, *rest)] if rest else inner
    replaced = tuple(_as_data(a) for a in arguments)
    if replaced == arguments:
        return annotation
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return Union[replaced]  # noqa: UP007 - built at run time
    return origin[replaced]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _name(component: type) -> str:
    return f"{component.__module__}.{component.__qualname__}"
