"""Settings: their types, their sources, and what each source is trusted with.

From weakest to strongest: defaults, the user's `singlepass.toml`, `initializationOptions`, the editor's
`workspace/configuration`. A repository's own `.singlepass.toml` may only add actions and ignore patterns: the
author of a repository must not choose a model, an executable or an endpoint. Nor must they be able to
overload the server, so the file's size, the number of its settings and the messages about it are limited.

An invalid setting (a field of a table, an item of a list) is reported as a `Problem` and left out; the rest
is used. If a target that the user named cannot be used because of it, the problem names the target, and the
demo model is not used instead.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args, get_type_hints

import msgspec
from msgspec import Meta
from singlepass_backends.base import DEMO_MODEL, Target

from singlepass.core.actions import Action
from singlepass.files.regular_file import read_regular

USER_FILE = "singlepass.toml"
REPOSITORY_FILE = ".singlepass.toml"
REPOSITORY_KEYS = frozenset({"actions", "ignore"})
REPOSITORY_KINDS = ("refactor", "quickfix")
"""Allowed kinds of actions. Some editors run others, such as `source.fixAll`, automatically on saving."""
MAX_REPOSITORY_BYTES = 256 * 1024
MAX_REPOSITORY_ITEMS = {"actions": 100, "ignore": 2_000}
_DEEP_KEY = re.compile(
    r"""(?:(?>[\w-]{1,100}|"(?:[^"\\\n]|\\.){0,100}"|'[^'\n]{0,100}')[ \t]*+\.[ \t]*+){20}"""
)
"""Time and memory of Python's TOML parser grow with the square of the number of a key's parts."""
_MESSAGES, _MESSAGE_CHARS = 3, 300
"""Maximum number of characters in a message about a repository's file."""
DEFAULT, DEMO = "default", "demo model"
"""The names of `target`, and of the demo model's target."""
_DEMO_TARGET = Target(model=str(DEMO_MODEL))


class Route(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rule: requests of these kinds, in these languages, go to a target. The first matching rule
    applies."""

    target: str
    """The name of a target."""
    kinds: tuple[str, ...] = ()
    """LSP CodeActionKinds, including sub-kinds: `refactor` includes `refactor.extract`. Empty means all."""
    languages: tuple[str, ...] = ()
    """LSP language identifiers; empty means all."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. `docs/settings.md` lists the same names."""

    target: Target = Target()
    targets: dict[str, Target] = {}
    """More targets, by name; `target` is the first and is named `default`."""
    routes: tuple[Route, ...] = ()
    """Which target serves which kind of action or language; the first matching rule applies."""
    max_wait_s: Annotated[float, Meta(gt=0)] = 10.0
    """Without a rule: the first target that is expected to finish within this time (seconds), else the
    fastest."""
    remote_workspaces: tuple[str, ...] = ()
    """Folders whose code may be sent to remote targets; `*` for all."""
    review: Literal["stream", "confirm"] = "stream"
    """`stream` sends each hunk as it arrives; `confirm` sends one edit at the end that asks first."""
    actions: tuple[Action, ...] = ()
    ignore: tuple[str, ...] = ()
    """Patterns, as in .gitignore, of files that never enter a prompt."""
    max_tokens: Annotated[int, Meta(ge=1)] = 4096
    """Maximum tokens of one reply."""
    temperature: Annotated[float, Meta(ge=0, le=10)] = 0.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    seed: Annotated[int, Meta(ge=0)] = 0
    max_neighbours: Annotated[int, Meta(ge=0)] = 6
    """Maximum number of neighbours in a prompt: open files, then those that the file imports or that import
    it."""
    context_map_tokens: int = 1500
    """Approximate maximum size of the repository map in tokens; 0 for no map."""
    prewarm: bool | Literal["plugged"] = True
    """Prefill the context before a request; `plugged` does so on mains power only."""
    estimates: bool = True
    """Show in the title of an action how long it will probably take."""
    timings: bool = True
    """Publish an Information diagnostic with the timings of the last job."""
    stats: bool = True
    """Store the numbers of each job for `singlepass stats`, on this machine only."""
    idle_exit_minutes: Annotated[float, Meta(gt=0)] = 30.0
    """Seconds without a request after which the engine exits."""
    code_lenses: bool = False
    """Offer code lenses to keep or undo each edit, for editors without a singlepass extension."""
    allow_outside_workspace: bool = False
    """Allow edits of files outside the workspace folders."""
    log_level: Literal["error", "warning", "info", "debug"] = "info"

    @property
    def names_target(self) -> bool:
        """Whether the user named a model or a server."""
        return any(target.is_set for target in (self.target, *self.targets.values()))


class Problem(msgspec.Struct, frozen=True):
    """One setting that could not be used."""

    source: str
    message: str
    target: str | None = None
    """The name of a target that cannot be used because of it; empty for any that an unreadable file may
    name."""

    def __str__(self) -> str:
        return f"{self.source}: {self.message}"


def load_settings(
    layers: Iterable[tuple[str, Mapping[str, Any]]], repository: Iterable[tuple[str, Mapping[str, Any]]] = ()
) -> tuple[Settings, list[Problem]]:
    """Settings from (source, values) layers, weakest first, and a problem for every value that was left
    out."""
    merged: dict[str, Any] = {}
    problems: list[Problem] = []
    layers = list(layers)
    for source, values in layers:
        for key, value in values.items():
            usable, wrong = _usable(key, value)
            problems += (Problem(source, *one) for one in wrong)
            if usable is not None:
                old = merged.get(key)
                merged[key] = _merge(_without_server(old, usable) if key == "target" else old, usable)
    keys = f"a repository may set only {' and '.join(sorted(REPOSITORY_KEYS))}. Put it into {user_file()}"
    for source, values in repository:
        for key, value in values.items():
            if key not in REPOSITORY_KEYS:
                problems.append(Problem(source, f"`{key[:_MESSAGE_CHARS]}` is ignored: {keys}"))
                continue
            usable, wrong = _of_repository(key, value)
            problems += (Problem(source, message) for message in wrong)
            merged[key] = [*merged.get(key, []), *usable]
    settings = msgspec.convert(merged, Settings)
    return settings, _with_unusable_targets(settings, merged, layers, problems)


def usable_targets(
    settings: Settings, problems: Iterable[Problem] = ()
) -> tuple[dict[str, Target], dict[str, str]]:
    """The usable targets, in the user's order, and by name why other targets cannot be used.

    If the user names none, there is the demo model. `problems` are those of loading the settings.
    """
    unusable: dict[str, str] = {}
    for problem in problems:
        if problem.target is not None:
            before = unusable.get(problem.target)
            unusable[problem.target] = f"{before}; {problem}" if before else str(problem)
    named = {DEFAULT: settings.target} if _names_something(settings.target) else {}
    named |= settings.targets
    for name, target in named.items():
        if target.fault:
            unusable.setdefault(name, f"`{_label(name)}`: {target.fault}")
    for rule in settings.routes:
        if rule.target not in (*named, DEMO):
            what = "`[target]` with a model" if rule.target == DEFAULT else f"`[targets.{rule.target}]`"
            unusable.setdefault(rule.target, f"`routes` names `{rule.target}`, and there is no {what}.")
    usable = {name: target for name, target in named.items() if name not in unusable}
    return (usable if usable or unusable else {DEMO: _DEMO_TARGET}), unusable


def _names_something(target: Target) -> bool:
    return bool(target.model or target.url or target.backend != Target().backend)


def _label(name: str) -> str:
    return "target" if name == DEFAULT else f"targets.{name}"


def _with_unusable_targets(
    settings: Settings,
    merged: Mapping[str, Any],
    layers: Sequence[tuple[str, Mapping[str, Any]]],
    problems: Sequence[Problem],
) -> list[Problem]:
    """The problems, extended by the target that is unusable because of each, and problems for unusable
    targets that have none yet."""
    mentions: dict[str, list[tuple[str, Any]]] = {}
    for source, values in layers:
        for name, raw in _target_tables(values).items():
            if raw is not None:
                mentions.setdefault(name, []).append((source, raw))
        for rule in _rules(values):
            mentions.setdefault(rule, []).append((source, None))
    tables: dict[str, Any] = {DEFAULT: merged.get("target"), **merged.get("targets", {})}

    def is_lost(name: str) -> bool:
        table = tables.get(name)
        raws = [raw for _, raw in mentions.get(name, ()) if raw is not None]
        if name == DEFAULT and not any(map(_names_model, raws)):
            return False
        # Without the backend, the meaning of the other fields is unknown.
        has_lost_backend = any(isinstance(raw, dict) and "backend" in raw for raw in raws)
        return table is None or bool(
            msgspec.convert(table, Target).fault or (has_lost_backend and "backend" not in table)
        )

    found = [
        one if one.target is None or is_lost(one.target) else msgspec.structs.replace(one, target=None)
        for one in problems
    ]
    told = {one.target for one in found}
    _, unusable = usable_targets(settings)
    found += (
        Problem(mentions[name][-1][0], reason, name)
        for name, reason in unusable.items()
        if name not in told and name in mentions
    )
    return found


def _names_model(raw: Any) -> bool:
    """Whether a value of `target`, valid or not, was meant to name a model or a server."""
    if not isinstance(raw, dict):
        return True
    essential = ("model", "url", "backend")
    fields = cast("dict[str, Any]", raw)
    return any(
        value is not None and value != "" and difflib.get_close_matches(key, essential, n=1)
        for key, value in fields.items()
        if key in essential or key not in Target.__struct_fields__
    )


def _target_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """The targets of a layer by name, valid or not."""
    targets = values.get("targets")
    listed = cast("dict[str, Any]", targets) if isinstance(targets, dict) else {}
    return {DEFAULT: values.get("target"), **listed}


def _rules(values: Mapping[str, Any]) -> list[str]:
    """The names of targets in the rules of a layer."""
    routes = values.get("routes")
    rules = cast("list[Any]", routes) if isinstance(routes, list) else []
    names = [cast("dict[str, Any]", rule).get("target") for rule in rules if isinstance(rule, dict)]
    return [name for name in names if isinstance(name, str)]


def _of_repository(key: str, value: Any) -> tuple[list[Any], list[str]]:
    """The usable part of a repository's setting, and the problems of the rest."""
    most = MAX_REPOSITORY_ITEMS[key]
    wrong: list[str] = []
    if isinstance(value, list) and len(items := cast("list[Any]", value)) > most:
        wrong.append(f"only the first {most:,} of {len(items):,} `{key}` are used")
        value = items[:most]
    found, unusable = _usable(key, value)
    usable: list[Any] = found or []
    others = [message for message, _ in unusable]
    if key == "ignore" and any(one.startswith("!") for one in usable):
        # A separate ignore file, see `files/ignoring.py`: its negations affect only its own patterns.
        usable = ["\n".join(("", *usable))]
    if key == "actions":
        refused = [one for one in usable if not _is_asked_for(one.get("kind", REPOSITORY_KINDS[0]))]
        usable = [one for one in usable if one not in refused]
        others += (
            f"the action `{one['title']}` is left out: of a repository `kind` may only be one of "
            f"{' or '.join(REPOSITORY_KINDS)}"
            for one in refused
        )
    return usable, wrong + others


def _is_asked_for(kind: str) -> bool:
    return any(kind == one or kind.startswith(f"{one}.") for one in REPOSITORY_KINDS)


def read_repository(folder: Path) -> tuple[dict[str, Any], list[Problem]]:
    """The values of a folder's own settings file; empty if there is none. Never raises.

    Only a regular file of at most `MAX_REPOSITORY_BYTES` inside the folder is read.
    """
    path = folder / REPOSITORY_FILE
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise ValueError("a link leads out of the folder")
        text = read_regular(path, MAX_REPOSITORY_BYTES).decode("utf-8-sig")
        if _DEEP_KEY.search(text):
            raise ValueError("a key has more than 20 parts")
        return tomllib.loads(text), []
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        return {}, [Problem(str(path), f"cannot be read, so none of it is used: {reason}")]


def one_for_each(problems: Iterable[Problem]) -> list[Problem]:
    """One problem for each source, with the first few problems, shortened, and the number of others."""
    by_source: dict[str, list[str]] = {}
    for problem in problems:
        by_source.setdefault(problem.source, []).append(problem.message)
    found: list[Problem] = []
    for source, messages in by_source.items():
        named = [
            one if len(one) <= _MESSAGE_CHARS else f"{one[: _MESSAGE_CHARS - 1]}…"
            for one in messages[:_MESSAGES]
        ]
        n_more = len(messages) - len(named)
        more = f" (and {n_more:,} more problems in this file)" if n_more else ""
        found.append(Problem(source, f"{'; '.join(named)}{more}"))
    return found


def read_toml(path: Path) -> tuple[dict[str, Any], list[Problem]]:
    """The values of a settings file; empty if there is none. Never raises for invalid content."""
    try:
        # Some editors on Windows write a byte order mark.
        return tomllib.loads(path.read_text(encoding="utf-8-sig")), []
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError, RecursionError) as error:
        return {}, [Problem(str(path), f"cannot be read, so none of it is used: {error}")]


def user_file() -> Path:
    """The user's settings file. `SINGLEPASS_CONFIG_DIR` names another folder for it."""
    if folder := os.environ.get("SINGLEPASS_CONFIG_DIR"):
        return Path(folder) / USER_FILE
    import platformdirs  # here, since the editor waits for our imports

    return platformdirs.user_config_path("singlepass") / USER_FILE


def read_user_file() -> tuple[dict[str, Any], list[Problem]]:
    """The values of the user's settings file. A relative model path is taken relative to the file, if it
    exists there."""
    path = user_file()
    values, problems = read_toml(path)
    for table in _target_tables(values).values():
        if isinstance(table, dict) and cast("dict[str, Any]", table).get("backend") != "openai_compatible":
            fields = cast("dict[str, Any]", table)
            if there := _model_path(path.parent, fields.get("model")):
                fields["model"] = there
    # It is unknown which targets the file names.
    return values, [msgspec.structs.replace(problem, target="") for problem in problems]


def _model_path(folder: Path, value: Any) -> str:
    """The absolute path of a file given relative to the folder; empty if there is none."""
    try:
        path = folder / value if isinstance(value, str) and value and not Path(value).is_absolute() else None
        return str(path) if path is not None and path.exists() else ""
    except (OSError, ValueError):
        return ""


def user_settings() -> tuple[Settings, list[Problem]]:
    """The settings from the user's file alone, for the command line, and its problems."""
    values, problems = read_user_file()
    settings, wrong = load_settings([(str(user_file()), values)])
    return settings, [*problems, *wrong]


_OF_SERVERS = ("backend", "url", "api_key_env")


def _without_server(old: Any, new: Any) -> Any:
    """An earlier source's target, without its server where a later one names a model file and no server."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return cast("Any", old)
    fields, later = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
    model = str(later.get("model", ""))
    is_file = model.startswith(("/", "~")) or model.endswith(".gguf")
    if not is_file or "backend" in later or "url" in later or fields.get("backend") != "openai_compatible":
        return fields
    return {name: value for name, value in fields.items() if name not in _OF_SERVERS}


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        return {**cast("dict[str, Any]", old), **cast("dict[str, Any]", new)}
    return new


_Wrong = tuple[str, str | None]
"""A problem, and the target that it is about."""
_DEFAULTS = Settings()


def _usable(key: str, value: Any) -> tuple[Any, list[_Wrong]]:
    """The usable part of a setting (None for nothing), and the problems of the rest.

    Fields of a table and items of a list are independent: an invalid one does not affect the others.
    """
    if value is None:  # JSON clients use null for a setting that is not set
        return None, []
    if key == "target":
        return _usable_target(DEFAULT, value)
    if key == "targets" and isinstance(value, dict):
        targets = cast("dict[str, Any]", value)
        found = {name: _usable_target(name, one) for name, one in targets.items()}
        usable: Any = {name: one for name, (one, _) in found.items() if one is not None}
        return usable, [message for _, wrong in found.values() for message in wrong]
    if isinstance(getattr(_DEFAULTS, key, None), tuple) and isinstance(value, list):
        items = cast("list[Any]", value)
        problems = [_check(Settings, key, [item]) for item in items]
        usable = [item for item, problem in zip(items, problems, strict=True) if problem is None]
        numbered = enumerate(problems, 1)
        return usable, [(f"number {number} of {problem}", None) for number, problem in numbered if problem]
    problem = _check(Settings, key, value)
    return (value, []) if problem is None else (None, [(problem, None)])


def _usable_target(name: str, value: Any) -> tuple[dict[str, Any] | None, list[_Wrong]]:
    label = _label(name)
    if value is None:
        return None, []
    if not isinstance(value, dict):
        problem = _check(Settings, "target", value) or ""
        hint = f', such as `[{label}]` with `model = "/path/to/model.gguf"`'
        return None, [(f"`{label}`{problem.removeprefix('`target`')}{hint}", name)]
    fields = {key: field for key, field in cast("dict[str, Any]", value).items() if field is not None}
    wrong = {key: _check(Target, key, field, f"{label}.") for key, field in fields.items()}
    usable = {key: field for key, field in fields.items() if wrong[key] is None}
    # The error for an unknown field does not begin with its location.
    prefix = "" if name == DEFAULT else f"`{label}`: "
    told = (message if message.startswith("`") else prefix + message for message in wrong.values() if message)
    return usable, [(message, name) for message in told]


def _check(type: type[msgspec.Struct], key: str, value: Any, prefix: str = "") -> str | None:
    """The problem with one field, or None."""
    names = type.__struct_fields__
    if key not in names:
        close = difflib.get_close_matches(key, names, n=1)
        return f"unknown setting `{prefix}{key}`" + (f"; did you mean `{prefix}{close[0]}`?" if close else "")
    try:
        msgspec.convert({key: value}, type)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        if "enum value" in what:
            what += f"; expected {_choices(type, key)}"
        # The items of a list are checked one at a time, so the index is meaningless.
        return f"`{prefix}{where.rstrip('`').replace('[0]', '') or key}`: {what[0].lower()}{what[1:]}"
    return None


def _choices(type: type[msgspec.Struct], key: str) -> str:
    """The allowed values of a field."""
    kind = get_type_hints(type)[key]
    kinds = (kind, *get_args(kind))
    words = [word for one in kinds for word in get_args(one) if isinstance(word, str)]
    return ", ".join(
        f'"{word}"' for word in dict.fromkeys([*words, *(k for k in kinds if isinstance(k, str))])
    )
