"""From raw tables to the model, key by key, so that one bad value does not hide the others."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from forwarder.config import address, form, kinds, scalar
from forwarder.config.model import Address, Config, Destination, Drain, Listen, Log, Secret, SpoolConfig
from forwarder.config.report import Report
from forwarder.config.unfit import Unfit, closest, shown

SectionT = TypeVar("SectionT", bound=msgspec.Struct)

SECTIONS: Mapping[str, type[msgspec.Struct]] = {"listen": Listen, "spool": SpoolConfig, "log": Log, "drain": Drain}
SECRET_FORMS = '{ file = "/path" }, { env = "NAME" } or { credential = "NAME" }'  # noqa: S105 - how to refer to one
DESTINATION_NAME = r"[a-z0-9][a-z0-9_-]{0,63}"

_ANY_ADDRESS = f'{address.TCP}, "unix:/run/forwarder/http.sock" or {address.SYSTEMD}'
_ADDRESSES = {
    "listen.http": _ANY_ADDRESS,
    "listen.udp": f"{address.TCP} or {address.SYSTEMD}",
    "listen.unix_datagram": f'"unix:/run/forwarder/events.sock" or {address.SYSTEMD}',
    "listen.admin": f'{_ANY_ADDRESS}, or "none"',
}


class Reported(Exception):
    """A value that cannot be used and was reported already."""


class Walker:
    """Reads one configuration into the model; relative paths are completed with `base`."""

    def __init__(self, report: Report, *, base: Path, home: str | None) -> None:
        self._report = report
        self._base = base
        self._home = home

    def config(self, raw: Mapping[str, Any], source: str | None) -> Config:
        """Return the configuration; what has a problem has its default."""
        self._unknown_keys(raw, ("listen", "spool", "destinations", "log", "drain"), "")
        built: dict[str, Any] = {
            name: self._section(cls, raw[name], name, {}) for name, cls in SECTIONS.items() if name in raw
        }
        destinations = self._destinations(raw.get("destinations", {}), built.get("spool", SpoolConfig()))
        return Config(**built, destinations=destinations, source=source)

    def _destinations(self, raw: object, spool: SpoolConfig) -> tuple[Destination, ...]:
        if not isinstance(raw, dict):
            self._report.problem("destinations", f"found {shown(raw)}, expected tables [destinations.NAME]")
            return ()
        return tuple(self._destination(name, table, spool) for name, table in raw.items())

    def _destination(self, name: str, raw: object, spool: SpoolConfig) -> Destination:
        path = f"destinations.{name}"
        self._destination_name(name, path)
        table = self._table(raw, path)
        kind = table.get("kind")
        if kind is None and self._report.clean(path):
            words = ", ".join(f'"{word}"' for word in kinds.KINDS)
            self._report.problem(f"{path}.kind", f"missing, expected one of {words}")
        if not isinstance(kind, str) or kind not in kinds.KINDS:
            kind = next(iter(kinds.KINDS))  # its defaults fill in; the bad value is reported when its field is read
        given = {"name": name, "kind": str(kind), **kinds.defaults(kind, spool)}
        return self._section(Destination, table, path, given)

    def _destination_name(self, name: str, path: str) -> None:
        if not scalar.matches(DESTINATION_NAME, name):
            meant = name.lower().replace(" ", "-").replace(".", "-")
            hint = f'; did you mean "{meant}"?' if scalar.matches(DESTINATION_NAME, meant) else ""
            expected = "at most 64 lower-case letters, digits, - and _, the first a letter or digit"
            text = f"not a safe name for a directory, expected {expected}{hint}"
            self._report.problem(path, text, spoils=f"{path}.name")

    def _section(self, cls: type[SectionT], raw: object, path: str, given: Mapping[str, Any]) -> SectionT:
        """Return one table as `cls`; `given` holds what the table need not say."""
        table = self._table(raw, path)
        fields = {info.name: info.type for info in msgspec.structs.fields(cls) if info.name != "name"}
        self._unknown_keys(table, fields, path)
        values = dict(given)
        for name, hint in fields.items():
            if name in table:
                self._field(values, name, hint, table[name], f"{path}.{name}")
        return cls(**values)

    def _table(self, raw: object, path: str) -> dict[str, Any]:
        try:
            return scalar.table(raw)
        except Unfit as unfit:
            self._report.unfit(path, raw, unfit)
            return {}

    def _unknown_keys(self, raw: Mapping[str, Any], known: Iterable[str], path: str) -> None:
        for key in raw:
            if key in known:
                continue
            near = closest(key, known)
            hint = f'; did you mean "{near}"?' if near else f", expected one of {', '.join(known)}"
            self._report.problem(f"{path}.{key}" if path else key, f"unknown key{hint}")

    def _field(self, values: dict[str, Any], name: str, hint: Any, raw: object, path: str) -> None:
        """Put the value of one key into `values`, or report why not."""
        hint, meta = form.unwrap(hint)
        try:
            values[name] = self._value(form.bare(hint), meta, raw, path)
        except Unfit as unfit:
            self._report.unfit(path, raw, unfit)
        except Reported:
            return

    def _value(self, base: Any, meta: msgspec.Meta, raw: object, path: str) -> Any:
        if base is Secret:
            return self._secret(raw, path)
        if get_origin(base) is tuple:
            return self._list(get_args(base)[0], meta, raw, path)
        if get_origin(base) is dict:
            return self._statuses(get_args(base)[1], raw, path)
        if base is not Address and isinstance(base, type) and issubclass(base, msgspec.Struct):
            return self._section(base, raw, path, {})
        return self._single(base, meta, raw, path)

    def _single(self, base: Any, meta: msgspec.Meta, raw: object, path: str) -> Any:
        if base is Address:
            return _address(raw, path)
        if base is bool:
            return scalar.boolean(raw)
        if words := form.literals(base):
            return scalar.word(raw, words)
        if base is int or base is float:
            return base(scalar.amount(raw, base, meta))
        return scalar.string(raw, meta, self._base, self._home)

    def _list(self, item: Any, meta: msgspec.Meta, raw: object, path: str) -> tuple[Any, ...]:
        elements = scalar.array(raw, "a list of addresses" if item is Address else "a list of strings")
        values: list[Any] = []
        for index, element in enumerate(elements):
            try:
                value = self._single(item, meta, element, path)
            except Unfit as unfit:
                self._report.unfit(f"{path}[{index}]", element, unfit, spoils=path)
                continue
            if value in values and item is not Address:
                self._report.problem(f"{path}[{index}]", f"{shown(element)} is listed twice", spoils=path)
            values.append(value)
        if not self._report.clean(path):
            raise Reported
        return tuple(values)

    def _statuses(self, hint: Any, raw: object, path: str) -> dict[str, str]:
        values = {}
        for status, meaning in scalar.table(raw, 'a table such as { "409" = "delivered" }').items():
            if not scalar.matches("[2-5][0-9][0-9]", status):
                text = "not a status, expected three digits from 200 to 599"
                self._report.problem(f"{path}.{status}", text, spoils=path)
            try:
                values[status] = scalar.word(meaning, form.literals(hint))
            except Unfit as unfit:
                self._report.unfit(f"{path}.{status}", meaning, unfit, spoils=path)
        return values

    def _secret(self, raw: object, path: str) -> Secret:
        """Return a reference; whatever else stands there is never shown, for it may be the secret itself."""
        try:
            table = scalar.table(raw)
        except Unfit:
            text = f"a secret does not stand in the configuration itself, expected {SECRET_FORMS}"
            self._report.problem(path, text)
            raise Reported from None
        if len(table) != 1 and set(table) <= {"file", "env", "credential"}:
            found = " and ".join(sorted(table)) or "an empty table"
            self._report.problem(path, f"found {found}, expected exactly one of {SECRET_FORMS}")
            raise Reported
        return self._section(Secret, table, path, {})


def _address(raw: object, path: str) -> Address | None:
    expected = _ADDRESSES[path]
    if isinstance(raw, scalar.FromEnvironment) and raw.startswith("{"):
        raw = scalar.table(raw, expected)
    if path == "listen.admin" and raw == "none":
        return None
    value = address.parse(raw, expected)
    if path == "listen.udp" and value.unix:
        raise Unfit(f"{expected}; a unix socket belongs into listen.unix_datagram")
    if path == "listen.unix_datagram" and value.host:
        raise Unfit(f"{expected}; host and port belong into listen.udp")
    return value
