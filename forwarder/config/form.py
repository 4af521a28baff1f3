"""What a field of the model says about itself: its meaning, the form it is written in, and its bounds."""

from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec

from forwarder.config import quantity

Form = Literal[
    "duration", "size", "count", "number", "path", "url", "proxy", "origin", "host", "text", "mode", "statuses", "plain"
]


def duration(text: str, low: float = 0.001, high: float = 3650 * 86400.0) -> msgspec.Meta:
    """Describe a duration in seconds, written `10s`."""
    return _meta(text, "duration", low, high)


def size(text: str, low: int = 1, high: int | None = None) -> msgspec.Meta:
    """Describe a size in bytes, written `512KiB` or as a plain number of bytes."""
    return _meta(text, "size", low, high)


def count(text: str, low: int, high: int) -> msgspec.Meta:
    """Describe a whole number."""
    return _meta(text, "count", low, high)


def number(text: str, low: float, high: float) -> msgspec.Meta:
    """Describe a number that may have a fraction."""
    return _meta(text, "number", low, high)


def text(text: str, form: Form = "plain", *, pattern: str | None = None, example: Any = None) -> msgspec.Meta:
    """Describe anything else; `form` names the check that its strings must pass."""
    examples = None if example is None else [example]
    return msgspec.Meta(description=text, pattern=pattern, examples=examples, extra={"form": form})


def _meta(text: str, form: Form, low: float, high: float | None) -> msgspec.Meta:
    return msgspec.Meta(description=text, ge=low, le=high, extra={"form": form})


_NOTHING = msgspec.Meta(extra={"form": "plain"})


def unwrap(hint: Any) -> tuple[Any, msgspec.Meta]:
    """Return the bare type of a field and what is said about it."""
    if get_origin(hint) is Annotated:
        base, meta, *_ = get_args(hint)
        return base, meta
    return hint, _NOTHING


def of(meta: msgspec.Meta) -> Form:
    """Return the form that `meta` names."""
    form: Form = (meta.extra or {})["form"]
    return form


def bare(hint: Any) -> Any:
    """Return `hint` without `| None`."""
    options = [option for option in get_args(hint) if option is not type(None)]
    return options[0] if type(None) in get_args(hint) and len(options) == 1 else hint


def literals(hint: Any) -> tuple[str, ...]:
    """Return the words of a Literal; empty for any other type."""
    return get_args(hint) if get_origin(hint) is Literal else ()


def bound_text(meta: msgspec.Meta, value: float) -> str:
    """Return a bound as operators write it."""
    match of(meta):
        case "duration":
            return quantity.duration_text(value)
        case "size":
            return quantity.size_text(int(value))
        case _:
            return f"{value:g}" if value < 1 else f"{value:.0f}"


def within(meta: msgspec.Meta, value: float) -> bool:
    """Return whether `value` lies in the bounds of `meta`."""
    return (meta.ge is None or value >= meta.ge) and (meta.le is None or value <= meta.le)


def expectation(hint: Any, meta: msgspec.Meta) -> str:
    """Return what is expected, as it reads after "expected": `a size from 1KiB to 1GiB such as "512KiB"`."""
    base = bare(hint)
    if words := literals(base):
        return "one of " + ", ".join(f'"{word}"' for word in words)
    what = {
        "duration": "a duration",
        "size": "a size",
        "count": "a whole number",
        "number": "a number",
    }.get(of(meta))
    if what is not None and meta.ge is not None:
        least = bound_text(meta, meta.ge)
        most = "" if meta.le is None else bound_text(meta, meta.le)
        return f"{what} from {least} to {most}" if most else f"{what} of at least {least}"
    return {bool: "true or false", str: "a string"}.get(base, "a table")
