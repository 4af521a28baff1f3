"""What happened to one request, and what that means: the one place where an answer is judged."""

import enum
from collections.abc import Mapping
from typing import Literal

import msgspec

Kind = Literal["connect", "dns", "tls", "timeout", "reset"]
Meaning = Literal["delivered", "isolate", "park", "park_key", "back_off"]

STATUS_TOO_LARGE = 413

MEANINGS: Mapping[int, Meaning] = {
    401: "park",
    402: "park",
    407: "park",
    403: "park_key",
    404: "park_key",
    408: "back_off",
    425: "back_off",
    429: "back_off",
}
"""Where a status differs from its class, for any vendor; a vendor's table and `answers` come before it."""

ADVICE: Mapping[int, str] = {
    401: "check write key (destinations.{name}.write_key)",
    402: "payment required: check the account at the vendor",
    403: "forbidden: check destinations.{name}.write_key, url and the app at the vendor",
    404: "not found: check destinations.{name}.url and namespace",
    407: "the proxy wants credentials: check destinations.{name}.proxy",
    429: "too many requests: the vendor asks for patience",
}

UNREACHABLE: Mapping[Kind, str] = {
    "connect": "failed connection",
    "dns": "failed name lookup",
    "tls": "TLS",
    "timeout": "timeout",
    "reset": "lost connection",
}
"""What people read when there was no answer."""


class Answer(msgspec.Struct, frozen=True):
    """The vendor answered. `body_start` is the first 2 KiB; it may echo personal data, so it is never logged."""

    status: int
    retry_after_s: float | None = None
    body_start: str = ""
    location: str = ""
    """Where a redirect that is not followed points to, without path and query."""


class Unreachable(msgspec.Struct, frozen=True):
    """No answer. `ambiguous`: the request was written, so the vendor may have acted on it."""

    kind: Kind
    ambiguous: bool = False
    detail: str = ""


Result = Answer | Unreachable


class Verdict(enum.Enum):
    """What to do after a request."""

    DELIVERED = "delivered"
    ISOLATE = "isolate"
    TOO_LARGE = "too_large"
    PARK = "park"
    PARK_KEY = "park_key"
    BACK_OFF = "back_off"


_VERDICTS: Mapping[str, Verdict] = {verdict.value: verdict for verdict in Verdict}


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A result and its meaning."""

    verdict: Verdict
    reason: str
    """In words for status and log: "503", "401, …", "failed connection: …"."""
    status: int | None = None
    answer: str = ""
    retry_after_s: float | None = None
    ambiguous: bool = False
    blames: bool = False
    """The batch itself may be the cause of a BACK_OFF (the vendor saw it, and did not merely ask for patience)."""
    dns: bool = False


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What statuses mean at one destination."""

    name: str
    vendor: Mapping[int, Meaning] = {}
    overrides: Mapping[int, Meaning] = {}
    _delivered: dict[int, "Judged"] = {}
    """What was judged delivered and asked for nothing: the same for each such answer, and most answers are."""

    def meaning(self, status: int) -> Meaning:
        """Return what `status` means: the operator's word, the vendor's table, the common table, the class."""
        for table in (self.overrides, self.vendor, MEANINGS):
            if status in table:
                return table[status]
        return _by_class(status)

    def judge(self, result: Result) -> Judged:
        """Return the meaning of one request's result."""
        if isinstance(result, Unreachable):
            return self._judge_unreachable(result)
        if result.retry_after_s is not None:
            return self._judge(result)
        judged = self._delivered.get(result.status)
        if judged is None:
            judged = self._judge(result)
            if judged.verdict is Verdict.DELIVERED:
                judged = self._delivered[result.status] = msgspec.structs.replace(judged, answer="")
        return judged

    def _judge(self, result: Answer) -> Judged:
        verdict = self._verdict(result.status)
        return Judged(
            verdict=verdict,
            reason=self._words(result),
            status=result.status,
            answer=result.body_start,
            retry_after_s=result.retry_after_s,
            blames=_blames(result),
        )

    def _verdict(self, status: int) -> Verdict:
        meaning = self.meaning(status)
        if meaning == "isolate" and status == STATUS_TOO_LARGE:
            return Verdict.TOO_LARGE
        return _VERDICTS[meaning]

    def _judge_unreachable(self, result: Unreachable) -> Judged:
        words = ": ".join(filter(None, (UNREACHABLE[result.kind], result.detail)))
        if result.kind == "tls":
            advice = f"check destinations.{self.name}.url, ca_file, client_cert and the system's certificates"
            return Judged(verdict=Verdict.PARK, reason=f"{words}; {advice}")
        return Judged(
            verdict=Verdict.BACK_OFF,
            reason=words,
            ambiguous=result.ambiguous,
            blames=result.ambiguous,
            dns=result.kind == "dns",
        )

    def _words(self, result: Answer) -> str:
        status = result.status
        if _by_class(status) == "park" and status not in ADVICE:
            target = result.location or "elsewhere"
            return f"{status}, redirected to {target}, which is not followed: check destinations.{self.name}.url"
        advice = ADVICE.get(status)
        return f"{status}, {advice.format(name=self.name)}" if advice else str(status)


def _by_class(status: int) -> Meaning:
    match status // 100:
        case 2:
            return "delivered"
        case 3:
            return "park"
        case 4:
            return "isolate"
        case _:
            return "back_off"


def _blames(result: Answer) -> bool:
    """Return whether the batch may be at fault; 425, 429 and Retry-After speak about the moment, not about it."""
    return result.retry_after_s is None and result.status not in (425, 429)
