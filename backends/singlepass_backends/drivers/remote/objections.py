"""Which parts of a request a server rejects, and how requests are adapted to it (sans-IO).

Theory of operation. What a service supports is not documented completely, depends on the model, and changes.
So requests are first sent in the most common form, and a server that rejects one usually says why: a role
that its chat template does not know, a limit, a field. `adapted` derives from the error the `Terms` under
which to try again; `Terms.applied` changes a request accordingly. Terms only become stricter, so retries end.
The caller keeps the terms of the last accepted request.

The wordings are those of OpenAI, Azure, Groq, DeepSeek, Mistral, DashScope, adapters to Gemini and Bedrock,
vLLM, llama-server and LM Studio (whose chat templates raise them), TGI, and servers that validate with
pydantic.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

REQUIRED = frozenset({"model", "messages", "stream", "input", "options"})
"""Fields that are never left out."""
LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens", "max_new_tokens", "num_predict")
"""Names of the field that limits the tokens of a reply."""
MIN_LIMIT = 16
"""Smaller numbers are not limits that a service would set."""
WARMEST_GREEDY = 0.01
"""The temperature for servers that do not accept 0: practically greedy."""


@dataclass(frozen=True)
class Terms:
    """What requests must conform to for a server to accept them; by default nothing."""

    without: frozenset[str] = frozenset()
    """Fields that are left out."""
    limit: int = 0
    """Maximum tokens of a reply; 0 if unknown."""
    limit_name: str = ""
    """The name of the field that limits the tokens of a reply; empty for the usual one."""
    least_temperature: float = 0.0
    most_temperature: float = math.inf
    has_system: bool = True
    """Whether a system message is supported; otherwise its text is put in front of the user's."""

    def applied(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request changed to conform to these terms."""
        kept = {name: value for name, value in body.items() if name not in self.without}
        if not self.has_system:
            kept = _in_one_message(kept)
        if "temperature" in kept:
            kept["temperature"] = min(max(kept["temperature"], self.least_temperature), self.most_temperature)
        if self.limit_name and self.limit_name not in self.without:
            n_most = next((body[name] for name in LIMITS if name in body), None)
            if n_most is not None:
                kept = {name: value for name, value in kept.items() if name not in LIMITS}
                kept[self.limit_name] = n_most
        return with_limit(kept, self.limit) if self.limit else kept


def limit_of(body: Mapping[str, Any]) -> int:
    """A request's limit for the tokens of the reply; 0 if it has none."""
    fields = body.get("options", body)
    return next((int(fields[name]) for name in LIMITS if name in fields), 0)


def with_limit(body: dict[str, Any], n_most: int) -> dict[str, Any]:
    """The request with its limit lowered to `n_most` tokens."""
    if "options" in body:
        return {**body, "options": with_limit(body["options"], n_most)}
    return {name: min(value, n_most) if name in LIMITS else value for name, value in body.items()}


def adapted(
    terms: Terms, sent: Mapping[str, Any], status: int, error: bytes, said: str, kept: str = ""
) -> Terms | None:
    """The terms that an error demands, stricter than `terms`, with which `sent` was sent; None if it demands
    no others. `said` is the error's message, `error` its body, `kept` a field that must not be dropped.

    A `status` of 200 means an error within the stream.
    """
    if status not in _STATUSES:
        return None
    found = terms
    for complaint in _complaints(error, said):
        found = _heeding(complaint, found, sent, is_plain=status in (400, 422), kept=kept)
    return found if found != terms else None


_STATUSES = frozenset({200, 400, 409, 413, 422, 500, 501})
"""HTTP statuses of rejected requests. llama-server uses 500 if a chat template raises an error."""


@dataclass(frozen=True)
class _Complaint:
    """One error, and the fields that the server names explicitly, outside the message."""

    said: str
    fields: tuple[str, ...] = ()


def _heeding(
    complaint: _Complaint, terms: Terms, sent: Mapping[str, Any], *, is_plain: bool, kept: str
) -> Terms:
    said = complaint.said
    if terms.has_system and _has_system(sent) and _is_about_system(said):
        return replace(terms, has_system=False)
    asked = limit_of(sent)
    named = [*complaint.fields, *_mentioned(said, sent)]
    is_blamed = bool(set(named) & set(LIMITS))
    if asked and (bound := limit_named(said, asked, is_blamed=is_blamed)):
        return replace(terms, limit=bound) if bound < asked else terms
    if is_blamed and asked == terms.limit:  # the limit that the server named itself was rejected
        return terms
    if not is_plain and not _OBJECTS.search(said):
        return terms
    for pattern, change in _VALUES:
        if pattern.search(said) and (changed := change(terms, said, sent)) is not None:
            return changed
    droppable = [name for name in named if name in sent and name not in REQUIRED]
    if not droppable or droppable[0] == kept:
        return terms
    name = droppable[0]
    if name in LIMITS:
        others = [one for one in LIMITS if one != name and re.search(rf"\b{one}\b", said)]
        other = others[0] if others else "max_completion_tokens"
        other = "" if other == name or other in terms.without else other
        return replace(terms, without=terms.without | {name}, limit_name=other)
    return replace(terms, without=terms.without | {name})


# System messages.

_NOT = r"(?:\bnot\b|n't\b|\bunsupported|\binvalid|\bunknown|\bunexpected|\bunrecogni[sz]ed|\bonly\b)"
_SYSTEM = r"\b(?:system|developer)\b['\"`]?\s*(?:role|message|prompt|instruction)"
_NO_SYSTEM = re.compile(
    rf"{_SYSTEM}.{{0,80}}?{_NOT}|{_NOT}.{{0,80}}?{_SYSTEM}"
    rf"|{_NOT}.{{0,60}}?\brole\b.{{0,30}}\b(?:system|developer)\b"
    rf"|\brole\b.{{0,40}}\b(?:system|developer)\b.{{0,60}}?{_NOT}"
    rf"|\brole\b.{{0,40}}{_NOT}.{{0,40}}\b(?:system|developer)\b"
    r"|\b(?:system|developer)\b['\"`]? is not (?:one of|a valid|an allowed)"
    r"|\broles? must alternate"
    r"|\bonly\b.{0,60}\broles?\b.{0,20}\b(?:supported|allowed|valid|accepted)"
    r"|\broles?\b.{0,60}\b(?:must|should|can only) be\b.{0,20}\buser\b"
    r"|\b(?:first message|conversation|messages?) (?:must|should|has to|have to|needs? to)\b.{0,40}\buser\b",
    re.IGNORECASE | re.DOTALL,
)


def _is_about_system(said: str) -> bool:
    return bool(_NO_SYSTEM.search(said))


def _has_system(body: Mapping[str, Any]) -> bool:
    return "system_prompt" in body or any(one["role"] == "system" for one in body.get("messages", ()))


def _in_one_message(body: dict[str, Any]) -> dict[str, Any]:
    if "system_prompt" in body:
        kept = {name: value for name, value in body.items() if name != "system_prompt"}
        return {**kept, "input": _joined(body["system_prompt"], body["input"])}
    messages = cast("list[dict[str, str]]", body.get("messages", []))
    system = "".join(one["content"] for one in messages if one["role"] == "system")
    user = "".join(one["content"] for one in messages if one["role"] != "system")
    return {**body, "messages": [{"role": "user", "content": _joined(system, user)}]}


def _joined(system: str, user: str) -> str:
    return f"{system.rstrip()}\n\n{user}" if system.strip() else user


# The limit for the tokens of a reply.

_TOKENS = re.compile(
    r"max(?:imum)?[_ ]?(?:number of )?(?:completion|output|new|generated)?[_ ]?tokens|num_predict"
    r"|\b(?:completion|output|generated) tokens",
    re.IGNORECASE,
)
_NUMBER = r"[`'\"(]?(\d[\d,_]*)"
_BOUNDS: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), less)
    for pattern, less in (
        (
            rf"(?:less than or equal to|smaller than or equal to|<=|≤|at most|up to|no more than) *{_NUMBER}",
            0,
        ),
        (rf"(?:not|cannot|can't) (?:be )?(?:exceed|more than|greater than|larger than|over) *{_NUMBER}", 0),
        (rf"(?:limit|maximum|max)(?:ed)?(?: (?:value|number|allowed))*(?: of| is| to|:|=)* *{_NUMBER}", 0),
        (rf"exceeds?[^.\d]{{0,60}}? *{_NUMBER}", 0),
        (r"\d+ *> *(\d[\d,_]*)", 0),
        (r"[\[(] *\d+ *, *(\d[\d,_]*) *\]", 0),
        (r"(?:between|from|range) *(?:of )?`?\d+`?(?: \(inclusive\))? *(?:and|to|-|–|\.\.+) *" + _NUMBER, 0),
        # Exclusive upper bounds.
        (rf"(?:(?:less|lower|smaller) than|below|(?<![<-])<(?!=)) *{_NUMBER}", 1),
        (r"[\[(] *\d+ *, *(\d[\d,_]*) *\)", 1),
        (r"(\d[\d,_]*) *\(exclusive\)", 1),
    )
)
"""Patterns with a number, and how far below that number the limit is."""

_TOO_MANY = re.compile(r"\btoo\b|exceed|limit|range|maximum|allowed (?:is|value)", re.IGNORECASE)


def limit_named(said: str, asked: int, *, is_blamed: bool = False) -> int:
    """The maximum tokens of a reply that an error names, at most `asked`; 0 if it names none."""
    if not (is_blamed or _TOKENS.search(said)):
        return 0
    bounds = [_count(found[1]) - less for pattern, less in _BOUNDS for found in pattern.finditer(said)]
    sound = [bound for bound in bounds if MIN_LIMIT <= bound <= asked]
    if sound:
        return min(sound)
    if not _TOO_MANY.search(said):
        return 0
    # Unknown wording: take the only number that could be the limit.
    numbers = {_count(one) for one in re.findall(r"(?<![\w.,-])(\d[\d,_]*)(?![\w-]|\.\d)", said)}
    others = {one for one in numbers if one != asked}
    return others.pop() if len(others) == 1 and MIN_LIMIT <= min(others) < asked else 0


def is_about_limit(said: str, asked: int) -> bool:
    """Whether an error mentions the limit for the reply's tokens, and quotes the number that we sent."""
    return bool(_TOKENS.search(said)) and re.search(rf"\b{asked}\b", re.sub("[,_]", "", said)) is not None


def _count(digits: str) -> int:
    digits = re.sub(r"[,_]", "", digits)
    return int(digits) if len(digits) < 12 else 0


# Values of other fields.


def _one_of_two(terms: Terms, said: str, sent: Mapping[str, Any]) -> Terms | None:
    """If a server accepts only one of `temperature` and `top_p`: keep the temperature."""
    return replace(terms, without=terms.without | {"top_p"}) if "top_p" in sent else None


def _not_zero(terms: Terms, said: str, sent: Mapping[str, Any]) -> Terms | None:
    is_new = sent.get("temperature") == 0 and not terms.least_temperature
    return replace(terms, least_temperature=WARMEST_GREEDY) if is_new else None


def _not_so_warm(terms: Terms, said: str, sent: Mapping[str, Any]) -> Terms | None:
    numbers = [float(one) for one in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])", said)]
    below = [one for one in numbers if 0 < one < sent.get("temperature", 0)]
    return replace(terms, most_temperature=max(below)) if below else None


def _no_thoughts(terms: Terms, said: str, sent: Mapping[str, Any]) -> Terms | None:
    named = {"think", "chat_template_kwargs"} & set(sent)
    return replace(terms, without=terms.without | named) if named else None


_VALUES = tuple(
    (re.compile(pattern, re.IGNORECASE), change)
    for pattern, change in (
        (r"temperature.{0,30}top_p.{0,40}(?:both|only one)|both.{0,20}temperature.{0,30}top_p", _one_of_two),
        (r"temperature.{0,60}(?:strictly positive|must be positive|greater than 0(?!\.?[1-9]))", _not_zero),
        (r"temperature.{0,60}(?:> ?0(?!\.?[1-9])|non-?zero|(?:not|cannot) be (?:0|zero))", _not_zero),
        (r"temperature.{0,60}(?:<|less|at most|between|range|\[|exceed|maximum|too \w+)", _not_so_warm),
        (r"not support (?:thinking|reasoning)|(?:thinking|reasoning) is not supported", _no_thoughts),
    )
)
"""Errors about a field's value, by their wording, and how the terms change; the first change is used."""

# Fields.

_OBJECTS = re.compile(
    r"support|unexpected|unknown|unrecogni[sz]ed|not (?:allowed|permitted|valid)|invalid|extra|forbidden"
    r"|(?:must|should) (?:not )?be|cannot",
    re.IGNORECASE,
)
"""A server failure that names a field is about that field only if it contains one of these words."""


def _mentioned(said: str, sent: Mapping[str, Any]) -> list[str]:
    """The fields of a request that an error mentions, in order of mention."""
    places: dict[str, int] = {}
    for name in sent:
        spelled = name.replace("_", "[_-]?")
        if found := re.search(rf"(?<![A-Za-z0-9_]){spelled}(?![A-Za-z0-9_])", said, re.IGNORECASE):
            places[name] = found.start()
    return sorted(places, key=places.__getitem__)


def _complaints(error: bytes, said: str) -> Iterator[_Complaint]:
    """The complaints in an error: pydantic has a list of `loc` and `msg`, OpenAI has a `param`."""
    try:
        fields = _dict(json.loads(error))
    except (ValueError, RecursionError):
        fields = {}
    listed = fields.get("detail") or _dict(fields.get("error")).get("detail") or fields.get("errors")
    entries = [_dict(one) for one in cast("list[object]", listed)] if isinstance(listed, list) else []
    entries = [one for one in entries if "loc" in one and "msg" in one]
    for entry in entries:
        place = entry["loc"] if isinstance(entry["loc"], list) else [entry["loc"]]
        path = [str(one) for one in cast("list[object]", place)]
        yield _Complaint(f"{' '.join(path)}: {entry['msg']}", tuple(_roots(path)))
    if not entries:
        error_fields = _dict(fields.get("error"))
        param = error_fields.get("param", fields.get("param"))
        yield _Complaint(said, tuple(_roots([param])) if isinstance(param, str) else ())


def _roots(path: list[str]) -> list[str]:
    """`body`, `messages`, 0, `role` → `messages`; `stream_options.include_usage` → `stream_options`."""
    names = [re.split(r"[.\[]", one)[0] for one in path if one not in ("body", "query")]
    return [name for name in names[:1] if name]


def _dict(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
