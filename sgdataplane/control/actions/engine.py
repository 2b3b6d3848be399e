"""One call, from documents to a commit: read, decide, validate, commit, answer.

Owns the order of these steps, tokens, and the copy of the documents that reads are answered from. Its input is a store.
Must not know HTTP, or what single actions do.

Writes of one process go one after the other, so that two of them never conflict; if another process has committed
meanwhile, the store says so, and the call is decided anew on what is there now. So is a call that would be refused:
what it asks for may have been made by another process a moment ago. Reads wait for nothing: they take the documents of
the last revision that has come, which never change.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from sgdataplane.control.access.permissions import ALL_RIGHTS, Rights, forbidden
from sgdataplane.control.access.targets import targets_of_change
from sgdataplane.control.actions import ACTIONS, Action
from sgdataplane.control.actions.scope import NEW_ACCOUNT, Habits, Scope
from sgdataplane.control.actions.validation import validate
from sgdataplane.control.calls.answers import NOT_FOUND, UNAVAILABLE, Answer, ApiError
from sgdataplane.errors import LimitError
from sgdataplane.store.audit import record_of
from sgdataplane.store.call import Call
from sgdataplane.store.documents import Documents, Workspace
from sgdataplane.store.history import Version
from sgdataplane.store.interface import (
    Answered,
    Body,
    ConflictError,
    FullError,
    GoneError,
    Revision,
    Store,
    Token,
    UnavailableError,
    Write,
)
from sgdataplane.store.rulechanges import rule_changes

TRIES = 20  # a call is decided anew so often if others commit meanwhile
TOKEN_S = 24 * 3600
MAX_TOKEN = 64  # characters, as the cloud's
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
SUFFIX = 17  # characters of an id after its prefix: 88 bits


def random_id(prefix: str) -> str:
    """Return a random id of the cloud's form."""
    return f"{prefix}-" + "".join(secrets.choice(ALPHABET) for _ in range(SUFFIX))


class Engine:
    """Answers calls. Several threads may use it.

    `profile` names the quotas, `new_id` makes an id from a prefix, and `rights` are those of the keys that call.
    """

    def __init__(
        self,
        store: Store,
        profile: str = "seed",
        new_id: Callable[[str], str] = random_id,
        rights: Rights = ALL_RIGHTS,
        habits: Habits = NEW_ACCOUNT,
    ) -> None:
        self._store, self.profile, self._new_id, self.rights, self._habits = store, profile, new_id, rights, habits
        self.documents = Documents.of(store.snapshot())  # of the last revision; reads are answered from them
        self._writing = threading.Lock()
        self.moved = threading.Condition()  # held to replace the documents, and notified then
        self.is_store_full = False  # when this process wrote last

    @property
    def revision(self) -> int:
        """The revision of the documents that reads are answered from."""
        return self.documents.revision

    @property
    def version(self) -> Version:
        """The epoch and revision of the documents that reads are answered from."""
        return self.documents.version

    def call(self, call: Call) -> Answer:
        """Answer a call. If it writes, its change is in the store before this returns.

        Raises:
            ApiError: The call is refused.
        """
        action = ACTIONS.get(call.action)
        if action is None:
            raise ApiError("InvalidAction.NotFound", f"The specified action {call.action} isn't there.", NOT_FOUND)
        with _answering():
            return self._write(action, call) if action.writes else Answer(self.read(action.run, call))

    def change(self, run: Callable[[Scope], Body], call: Call) -> Answer:
        """Make a change that is no action of the API, in the same way.

        Raises:
            ApiError: The change is refused.
        """
        with _answering():
            return self._write(Action(run, writes=True), call)

    def catch_up(self) -> None:
        """Take over what other processes have committed by now.

        Raises:
            ApiError: The store can't be reached.
        """
        with _answering():
            self._catch_up()

    def follow(self, *, timeout: float | None = None) -> None:
        """Take over what other processes commit, as it comes, until nothing has come for `timeout` seconds."""
        try:
            for change in self._store.watch(self.revision, timeout=timeout):
                self._go_on(change)
        except GoneError:
            self._reload()

    def read(self, run: Callable[[Scope], Body], call: Call) -> Body:
        """Return the answer of an action that writes nothing.

        Raises:
            ApiError: The call is refused.
        """
        with _answering():
            return run(Scope(Workspace(self.documents), call, self._new_id, self._habits))

    def _write(self, action: Action, call: Call) -> Answer:
        token = _token_of(call)
        with self._writing:
            is_behind = True  # what was refused once on the store's last documents stays so
            for _ in range(TRIES):
                answered = self._store.find_answer(token.name) if token else None
                if token and answered:
                    return _again(answered, token, self.version.epoch)
                try:
                    return self._run_and_commit(action, call, token)
                except ConflictError:
                    self._catch_up()
                except ApiError:
                    known = self.revision
                    if is_behind:
                        self._catch_up()
                    if self.revision == known:
                        raise
                    is_behind = False
        raise ApiError("OperationConflict", "Others change the same objects all the time; try again.", 409)

    def _run_and_commit(self, action: Action, call: Call, token: Token | None) -> Answer:
        workspace = Workspace(self.documents)
        body = action.run(Scope(workspace, call, self._new_id, self._habits))
        if self.rights.denies(call, targets_of_change(workspace)):
            raise forbidden()
        validate(workspace, self.profile)
        if str(call.parameters.get("DryRun", "")).lower() == "true":
            raise ApiError("DryRunOperation", "The call would have passed: nothing was changed.")
        if not workspace.is_changed and token is None:
            return Answer(body, self.revision, self.version.epoch)
        audit = record_of(call, workspace.changed, rule_changes(workspace))
        done = replace(token, answer=body) if token else None
        write = Write(workspace.guards, dict(workspace.puts), frozenset(workspace.deletes), audit, done)
        revision = self._commit(write)
        if revision == self.revision + 1:
            self._go_on(Revision(revision, write.puts, write.deletes, frozenset(write.guards)))
        elif revision > self.revision:  # else `follow` was quicker
            self._catch_up()
        return Answer(body, revision, self.version.epoch)

    def _commit(self, write: Write) -> int:
        try:
            revision = self._store.commit(write)
        except FullError:
            self.is_store_full = True
            raise
        self.is_store_full = False
        return revision

    def _catch_up(self) -> None:
        try:
            for change in self._store.watch(self.revision, timeout=0):
                self._go_on(change)
        except GoneError:
            self._reload()

    def _go_on(self, change: Revision) -> None:
        with self.moved:
            if change.revision == self.revision + 1:
                self.documents = self.documents.after(change)
            self.moved.notify_all()

    def _reload(self) -> None:
        """Read all documents anew.

        Raises:
            UnavailableError: The store has gone back, and nobody has said that it should.
        """
        known = self.version
        documents = Documents.of(self._store.snapshot())
        if documents.version < known:
            what = "if it was restored from a backup, run `sgdp api restored`"
            raise UnavailableError(f"the store has gone back from {known} to {documents.version}; {what}")
        with self.moved:
            if documents.version > self.version:
                self.documents = documents
            self.moved.notify_all()


@contextmanager
def _answering() -> Iterator[None]:
    """Turn errors of the store into the cloud's error: it can't be reached, is full, or can't hold the change."""
    try:
        yield
    except FullError as error:
        raise ApiError("ServiceUnavailable", f"The store is full: {error}", UNAVAILABLE) from error
    except UnavailableError as error:
        raise ApiError("ServiceUnavailable", f"The store can't be reached: {error}", UNAVAILABLE) from error
    except LimitError as error:
        raise ApiError("LimitExceeded.Store", f"The store can't hold it, and nothing was changed: {error}") from error


def _token_of(call: Call) -> Token | None:
    """Return what makes the call happen only once; None if it has no ClientToken.

    Raises:
        ApiError: The ClientToken is malformed.
    """
    given = str(call.parameters.get("ClientToken") or "")
    if not given:
        return None
    if len(given) > MAX_TOKEN or not given.isascii():
        raise ApiError("InvalidClientToken.Malformed", f"ClientToken has at most {MAX_TOKEN} ASCII characters")
    said = {"action": call.action, "parameters": dict(call.parameters), "extensions": dict(call.extensions)}
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
    return Token(f"{call.key}/{given}", digest, {}, call.now + TOKEN_S)


def _again(answered: Answered, token: Token, epoch: int) -> Answer:
    if answered.digest != token.digest:
        raise ApiError("IdempotentParameterMismatch", "The ClientToken was used for another request.")
    return Answer(answered.answer, answered.revision, epoch)
