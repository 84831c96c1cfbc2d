"""The targets in one workspace: which exist, which are allowed, and an attachment for each in use.

`target` in the settings is named `default`; `targets` has more. If the user names none, there is the demo
model, which comes with singlepass; if none of the named ones can be used, there is no target. A remote target
(a server that is not on this machine) is used only for workspaces that the user listed, whatever else is set.
"""

import ipaddress
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
from singlepass_backends.base import BackendError, Target

from singlepass.config import DEFAULT, Problem, Settings, usable_targets, user_file
from singlepass.editor.tasks import Owner, Work
from singlepass.editor.workspace import UserError, lies_in
from singlepass.engines.attachment import ASSUMED_CONTEXT, Attachment
from singlepass.engines.routing import Candidate, Request, Routed, estimate_s, route
from singlepass.stats.estimate import Rates
from singlepass.stats.history import History

_log = logging.getLogger(__name__)

_CLOSE_S = 2.0


class Targets:
    """The targets, and the attachments to those in use."""

    def __init__(self, folders: Callable[[], Sequence[Path]], history: History) -> None:
        """`folders` returns the workspace's folders."""
        self.settings = Settings()
        self.on_loading: Callable[[Attachment, float], None] = lambda _, __: None
        """Called with the progress of loading a model, from 0 to 1."""
        self.on_detached: Callable[[Attachment], None] = lambda _: None
        """Called when an engine ended or its target changed, so that nothing is cached any more."""
        self.selected: str | None = None
        """The target that the user selected by command; None means rules and estimates."""
        self._usable, self.unusable = usable_targets(self.settings)
        """Usable targets by name; and by name why others cannot be used."""
        self._folders = folders
        self._history = history
        self._attachments: dict[str, Attachment] = {}
        self.tasks = Owner()
        self._closing: dict[Attachment, Work] = {}
        self._dropped: list[Target] = []
        """Targets of earlier settings, whose engines may still be running."""

    @property
    def by_name(self) -> dict[str, Target]:
        """The usable targets by name, in the user's order."""
        return self._usable

    def configure(self, settings: Settings, problems: Sequence[Problem] = ()) -> None:
        """Apply new settings and their problems. The server detaches from changed and removed targets once
        their jobs have ended."""
        self.settings = settings
        self._usable, self.unusable = usable_targets(settings, problems)
        now = self.by_name
        if self.selected not in now and self.selected not in self.unusable:
            self.selected = None
        gone = [one for one in self._attachments.values() if now.get(one.name) != one.target]
        for attachment in gone:
            del self._attachments[attachment.name]
            self._dropped.append(attachment.target)
            attachment.client.before_start = None  # otherwise it would wait for itself
            self._closing[attachment] = self.tasks.start(self._close, attachment)
            self.on_detached(attachment)

    async def make_room(self) -> None:
        """Before a model is loaded, stop engines that are no longer in the settings: two models may not fit.

        This does not happen already when the settings change, so that the engine survives a mistake in the
        settings that is corrected.
        """
        for closing in [*self._closing.values()]:
            await closing.ended.wait()
        await self._stop_dropped()

    async def _close(self, attachment: Attachment) -> None:
        await attachment.aclose()
        del self._closing[attachment]

    async def _stop_dropped(self) -> None:
        """Stop the engines of removed targets, unless another editor uses them."""
        from singlepass_backends.client import EngineClient, identity

        for target in tuple(self._dropped):
            if identity(target) not in map(identity, self.by_name.values()):
                try:
                    await EngineClient(target).stop(unless="shared")
                except BackendError as error:
                    _log.warning("the engine of the previous target was not stopped: %s", error)
            if target in self._dropped:  # only now: a waiting task may have been cancelled
                self._dropped.remove(target)

    async def aclose(self) -> None:
        """Detach from all engines, which keep running."""
        attachments, self._attachments = self._attachments, {}
        for attachment in attachments.values():
            await attachment.client.aclose()
        with anyio.move_on_after(_CLOSE_S):
            for closing in [*self._closing.values()]:
                await closing.ended.wait()
        await self.tasks.aclose()

    def attachment(self, name: str) -> Attachment:
        """The attachment to a target, created on first use. Raises UserError for a removed target."""
        target = self.by_name.get(name)
        if target is None:
            self._refuse_unusable(name)
            raise UserError(f"There is no target `{name}` any more.")
        if name not in self._attachments:
            from singlepass_backends.client import EngineClient  # here: the editor waits for our imports

            client = EngineClient(target, idle_exit_s=self.settings.idle_exit_minutes * 60)
            made = self._attachments[name] = Attachment(name, target, client)
            client.on_loading = lambda fraction: self.on_loading(made, fraction)
            client.before_start = self.make_room
            made.on_lost = lambda: self.on_detached(made)
        return self._attachments[name]

    def is_attached(self, attachment: Attachment) -> bool:
        """Whether the attachment still belongs to a target."""
        return self._attachments.get(attachment.name) is attachment

    def cached(self, name: str, uri: str) -> tuple[int, int] | None:
        """Number of cached and of uncached tokens of a document's context on a target; None if unknown."""
        attachment = self._attachments.get(name)
        return attachment and attachment.cached(uri)

    def n_ctx(self, name: str) -> int:
        """The context of a target in tokens, or an assumption until it is known."""
        attachment = self._attachments.get(name)
        return attachment.n_ctx if attachment else self.by_name[name].n_ctx or ASSUMED_CONTEXT

    def rates(self, name: str) -> Rates | None:
        """The measured rates of a target; they belong to the model on this machine, not to one engine."""
        target = self.by_name.get(name)
        return self._history.rates(rates_key(target)) if target else None

    def candidates(self, n_cached: dict[str, int] | None = None, uris: Sequence[str] = ()) -> list[Candidate]:
        """The current state of the targets, with the tokens of a prompt that each has cached. A target is
        allowed if these documents may be sent to it."""
        return [
            Candidate(
                name=name,
                is_remote=is_remote(target),
                is_allowed=self.may_send(name, *uris),
                rates=self.rates(name),
                n_cached=(n_cached or {}).get(name, 0),
            )
            for name, target in self.by_name.items()
        ]

    def may_send(self, name: str, *uris: str) -> bool:
        """Whether these documents may be sent to a target. For a remote one they must be files in the folders
        that the user listed, with all links resolved."""
        target = self.by_name.get(name)
        if target is None or not self._is_allowed(target):
            return False
        listed = self.settings.remote_workspaces
        if not is_remote(target) or "*" in listed:
            return True
        folders = [Path(one).expanduser() for one in listed]
        return all(lies_in(uri, folders) for uri in uris)

    def to_prewarm(self, language: str = "", uris: Sequence[str] = ()) -> str:
        """The target to prewarm for these documents: the selected one, the one of a rule for the language, or
        the first. Raises UserError if none is allowed."""
        # An empty request takes no time, so the first allowed target is within any limit.
        request = Request(n_prompt=0, n_reply=0, language=language)
        return self.choose(request, self.candidates(uris=uris)).target or DEFAULT

    def choose(self, request: Request, candidates: Sequence[Candidate]) -> Routed:
        """The target for a request. Raises UserError if none is allowed, or the selected one cannot be
        used."""
        self._refuse_unusable(self.selected)
        selected = next((one for one in candidates if one.name == self.selected and one.is_allowed), None)
        if selected is not None:
            return Routed(
                target=selected.name,
                why=f"`{selected.name}` is selected",
                estimate_s=estimate_s(selected, request),
            )
        routed = route(request, candidates, self.settings.routes, self.settings.max_wait_s)
        if routed.target is None and not self.by_name:
            raise UserError(f"No target can be used. {' '.join(self.unusable.values())}")
        if routed.target is None:
            hosts = ", ".join(dict.fromkeys(target.host for target in self.by_name.values()))
            others = "".join(f" Besides: {reason}" for reason in self.unusable.values())
            if any(self.may_send(name) for name in self.by_name):
                raise UserError(
                    f"Every target that this workspace may use is a remote server ({hosts}), and not all "
                    "that would be sent lies in a folder of `remote_workspaces`. Save it into one of them, "
                    f'or add its folder, or "*" for all, in {user_file()}.{others}'
                )
            raise UserError(
                f"Every target is a remote server ({hosts}), and none is allowed for this workspace: code "
                f'would leave this machine. To allow it, add the folder, or "*" for all, to '
                f"`remote_workspaces` in {user_file()}.{others}"
            )
        return routed

    def _refuse_unusable(self, name: str | None) -> None:
        if name in self.unusable:
            raise UserError(f"The target `{name}` cannot be used. {self.unusable[name]}")

    def select(self, name: str | None) -> None:
        """Use this target from now on; None returns to rules and estimates. Raises UserError for a wrong
        name."""
        targets = self.by_name
        self._refuse_unusable(name)
        if name is not None and name not in targets:
            raise UserError(f"There is no target `{name}`. There are: {', '.join(targets) or 'none'}.")
        if name is not None and not self._is_allowed(targets[name]):
            raise UserError(
                f"`{name}` is a remote server ({targets[name].host}), not allowed for this workspace. "
                f'Add the folder, or "*" for all, to `remote_workspaces` in {user_file()}.'
            )
        self.selected = name

    def listed(self) -> list[dict[str, Any]]:
        """The targets, for a client with a user interface."""
        return [
            {
                "name": one.name,
                "model": self.by_name[one.name].model,
                "backend": self.by_name[one.name].backend,
                "remote": one.is_remote,
                "allowed": one.is_allowed,
                "prefill_rate": one.rates and one.rates.prefill,
                "decode_rate": one.rates and one.rates.decode,
            }
            for one in self.candidates()
        ]

    def _is_allowed(self, target: Target) -> bool:
        if not is_remote(target):
            return True
        listed = self.settings.remote_workspaces
        if "*" in listed:
            return True
        allowed = [Path(one).expanduser() for one in listed]
        folders = self._folders()
        return bool(folders) and all(any(folder.is_relative_to(one) for one in allowed) for folder in folders)


def is_remote(target: Target) -> bool:
    """Whether data sent to this target leaves the machine."""
    if target.backend != "openai_compatible":
        return False
    host = target.host
    if host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def rates_key(target: Target) -> str:
    """The key of a target's rates: they depend on the model and on where it runs."""
    where = f" at {target.host}" if target.url else ""
    layers = f", {target.n_gpu_layers} layers" if target.n_gpu_layers >= 0 else ""
    return f"{target.backend} {Path(target.model).name}{where}{layers}"
