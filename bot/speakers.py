"""Which model speaks in which mode, following the promoted release without a restart.

rag and prompt are the base model as it came; hybrid is the promoted release; finetuned is the closed-book release
where one is promoted, else the hybrid one without its passages.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from bot.errors import ReleaseError
from bot.models import ChatModel
from bot.releases import Promoted, Release, Releases
from bot.values import Mode
from prompts.fingerprint import fingerprint
from prompts.templates import Templates

log = logging.getLogger(__name__)

_LOOK_EVERY = 0.5  # seconds, at the pointer


@dataclass(frozen=True, slots=True)
class Speaker:
    """Hold a model with the templates that it understands; `release` is None for the base model."""

    model: ChatModel
    templates: Templates | None
    release: str | None
    fingerprint: str


class Speakers:
    """Load models when they are first needed, and the next release while the last one still answers.

    From the first question on a thread looks at the pointer. What it names takes effect once it is loaded; where that
    fails, what spoke before goes on. Safe to share between threads.
    """

    def __init__(
        self,
        base: Callable[[], ChatModel],
        releases: Releases | None = None,
        load: Callable[[Release], ChatModel] | None = None,
    ) -> None:
        """`releases` None says that the model is a remote one, which no release of ours changes."""
        self._base_model = base
        self._releases = releases
        self._load = load
        self._loading = threading.Lock()  # one model at a time
        self._guard = threading.Lock()  # of what follows; never held while a model loads
        self._base: Speaker | None = None
        self._ready: dict[str, Speaker] = {}
        self._served: Promoted | None = None  # whose releases speak
        self._seen: Promoted | None = None  # the pointer, loaded or not
        self._complaint = ""

    def speaker(self, mode: Mode) -> Speaker:
        """Return who speaks now; a turn keeps it to its end. Raises ModelError and ReleaseError on the first load."""
        with self._guard:
            name = self._name(mode)
            ready = self._ready.get(name) if name else self._base
        return ready or (self._first(name) if name else self._the_base())

    def release(self, mode: Mode) -> str | None:
        """Name the release that speaks in a mode, without loading it."""
        with self._guard:
            return self._name(mode)

    def _name(self, mode: Mode) -> str | None:
        """Name who speaks; call it under the guard."""
        if self._releases is None or mode in ("rag", "prompt"):
            return None
        if self._served is None:
            self._served = self._seen = self._releases.promoted()
            threading.Thread(target=_watch, args=(weakref.ref(self),), name="pointer", daemon=True).start()
        return self._served.hybrid if mode == "hybrid" else self._served.closed_book or self._served.hybrid

    def _first(self, name: str) -> Speaker:
        """Load a release that a question waits for."""
        with self._loading:
            if name in self._ready:
                return self._ready[name]
            speaker = self._spoken_by(name)
            with self._guard:
                if self._served and name in _names(self._served):  # unless the pointer has moved on meanwhile
                    self._ready[name] = speaker
            return speaker

    def _the_base(self) -> Speaker:
        with self._loading:
            if self._base is None:
                model = self._base_model()
                self._base = Speaker(model, None, None, fingerprint(model.template))
            return self._base

    def _spoken_by(self, name: str) -> Speaker:
        assert self._releases is not None and self._load is not None
        release = self._releases.get(name)
        model, templates = self._load(release), release.templates()
        speaker = Speaker(model, templates, name, fingerprint(model.template, templates))
        if speaker.fingerprint != release.fingerprint:
            log.error("release %s was trained on prompts that this version fills differently: retrain it", name)
        return speaker

    def _look(self) -> None:
        """Take the pointer's move over; returns once that is done."""
        assert self._releases is not None
        try:
            promoted = self._releases.promoted()
        except (ReleaseError, OSError) as error:
            if str(error) != self._complaint:  # once, not twice a second
                self._complaint = str(error)
                log.error("what is promoted cannot be read, and nothing changes: %s", error)
            return
        if promoted == self._seen:
            return
        self._seen = promoted
        # Not a daemon: at exit the interpreter waits for the engine, which must not be cut off while it loads.
        thread = threading.Thread(target=self._turn_over, args=(promoted,), name="promotion")
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending
            return
        thread.join()

    def _turn_over(self, promoted: Promoted) -> None:
        """Load what the pointer names, then let it speak; each recipe by itself."""
        served = self._served
        assert served is not None
        loaded: dict[str, Speaker] = {}
        hybrid = self._turned(promoted.hybrid, served.hybrid, loaded)
        closed_book = self._turned(promoted.closed_book, served.closed_book, loaded)
        after = Promoted(hybrid, closed_book, promoted.history)
        with self._guard:
            self._served = after
            self._ready = {n: s for n, s in {**self._ready, **loaded}.items() if n in _names(after)}
        log.info("now serving release %s (closed-book: %s)", hybrid, closed_book)

    def _turned(self, now: str | None, then: str | None, loaded: dict[str, Speaker]) -> str | None:
        """Return who shall speak for a recipe: `now`, added to `loaded`, or `then` where it cannot be loaded."""
        if now == then:
            return then
        try:
            if now is None:
                self._the_base()
            else:
                with self._loading:
                    loaded[now] = self._ready.get(now) or self._spoken_by(now)
        except Exception:  # whatever is wrong with the new one, the old one goes on answering
            log.exception("release %s cannot be loaded; %s goes on serving", now, then or "the base model")
            return then
        return now


def one_model(model: ChatModel) -> Speakers:
    """Let one model speak in every mode."""
    return Speakers(lambda: model)


def _watch(watched: weakref.ref[Speakers]) -> None:
    """Look at the pointer for as long as anybody holds the speakers."""
    while True:
        time.sleep(_LOOK_EVERY)
        speakers = watched()
        if speakers is None:
            return
        speakers._look()
        del speakers


def _names(promoted: Promoted) -> set[str | None]:
    return {promoted.hybrid, promoted.closed_book}
