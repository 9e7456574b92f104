"""Models and indexes on the Hugging Face Hub.

A push is one commit, so that others see the old state or the new one. What is fetched is not trusted: only files of known
names are downloaded, and they are opened through the checks that any checkpoint or index passes, without pickle and
without code. A token is used and never shown.
"""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from colbert_video.base.network import CACHED_PATIENCE_SECONDS, PATIENCE_SECONDS, hub_problem
from colbert_video.errors import HubError, SettingsError, in_one_line, shown

logger = logging.getLogger(__name__)

CARD = "README.md"
"""The description that the Hub shows."""
REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
TOKEN = re.compile(r"[!-~]+")
KINDS = {"model": "model", "dataset": "index"}
"""What a repository of each kind holds."""
SILENCE_SECONDS = 20.0
"""How long a Hub that did not answer is not asked again for what is cached."""
_SILENT: dict[str | None, tuple[str | None, float]] = {}
"""Why the Hub at an address did not answer, and until when that is believed."""
REMEDIES = {
    401: "log in again (`hf auth login`) or pass a valid token.",
    403: "the token may not do this; make one that may write.",
    409: "somebody else changed it meanwhile; try again.",
    412: "somebody else pushed meanwhile; try again.",
}
"""What to do about HTTP status codes."""


@dataclass(frozen=True)
class HubRepository:
    """A repository of the Hub and how to reach it.

    Raises:
        SettingsError: If the name is not of the form "user/name", or the token has characters that no token has.
    """

    id: str
    """"ORGANISATION/NAME" or "USER/NAME"."""
    kind: Literal["model", "dataset"]
    """Indexes live in dataset repositories."""
    revision: str | None = None
    """Branch, tag or commit; None for the main branch."""
    token: str | None = field(default=None, repr=False)
    """Access token; None for that of `hf auth login` or of the environment (HF_TOKEN), if there is one."""
    endpoint: str | None = None
    """Address of another Hub than huggingface.co."""

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.id):
            raise SettingsError(f"repository {shown(self.id)} must be of the form 'user/name'.")
        if self.token is not None and not TOKEN.fullmatch(self.token):
            raise SettingsError("the token has characters that no token has, such as a line break; copy it again.")

    @property
    def name(self) -> str:
        """Name for `VideoColBERT.from_pretrained`: "user/name", or "user/name@revision"."""
        return self.id if self.revision is None else f"{self.id}@{self.revision}"

    def push(self, folder: Path, *, card: str, private: bool, message: str, replaces: tuple[str, ...] = ()) -> str:
        """Commit all files of a folder; a missing repository or branch is made.

        Args:
            folder: What to commit.
            card: README.md for a repository that has none yet.
            private: True to make a new repository private; one that exists stays as it is.
            message: The commit's message.
            replaces: Beginnings of names; such files of the repository are deleted, unless the folder holds them.

        Returns:
            The address of the commit.

        Raises:
            HubError: If the Hub cannot be reached or refuses.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        with self._explained("pushed to"):
            self._check_answers("pushed to")
            hub = self._hub()
            hub.create_repo(self.id, repo_type=self.kind, private=private, exist_ok=True)
            if self.revision is not None:
                hub.create_branch(self.id, branch=self.revision, repo_type=self.kind, exist_ok=True)
            head = hub.repo_info(self.id, repo_type=self.kind, revision=self.revision)
            present = {sibling.rfilename for sibling in head.siblings or ()}
            operations: list[Any] = [CommitOperationAdd(name, path) for name, path in sorted(files.items())]
            if CARD not in present:
                operations.append(CommitOperationAdd(CARD, card.encode()))
            replaced = (name for name in present - files.keys() if name.startswith(replaces))
            operations += [CommitOperationDelete(name) for name in sorted(replaced)]
            commit = hub.create_commit(
                self.id,
                operations,
                commit_message=message,
                repo_type=self.kind,
                revision=self.revision,
                parent_commit=head.sha,  # if somebody else pushes meanwhile, this push fails
            )
        return str(commit.commit_url)

    def fetch(self, names: Sequence[str], *, cache_dir: Path | None = None) -> Path:
        """Download some files, or find them in the cache if the Hub does not answer.

        Args:
            names: Files; those that the repository lacks are left out.
            cache_dir: Where downloads are kept; None for huggingface_hub's cache.

        Returns:
            The folder that holds them as of one commit, named after the commit; other files in it must not be trusted.

        Raises:
            HubError: If the Hub refuses, or cannot be reached and the files are not in the cache.
        """
        with self._explained("fetched"):
            cached = self._cached(names, cache_dir)
            problem = self._problem_beside(cached)
            if problem is None:
                return self._snapshot(names, cache_dir)
            if cached is None:
                raise HubError(self._unanswered("fetched", problem))
            logger.info("%s is taken from the cache, and %s", self.name, problem)
            return cached

    def _problem_beside(self, cached: Path | None) -> str | None:
        """Return why the Hub does not answer; where a copy is cached, a silence of a moment ago counts as one of now.

        The files of a model are fetched in several steps, and the network is waited for once.
        """
        if cached is None:
            return hub_problem(self.endpoint, patience=PATIENCE_SECONDS)
        problem, until = _SILENT.get(self.endpoint, (None, 0.0))
        if problem is None or time.monotonic() > until:
            problem = hub_problem(self.endpoint, patience=CACHED_PATIENCE_SECONDS)
            _SILENT[self.endpoint] = problem, time.monotonic() + SILENCE_SECONDS
        return problem

    def _snapshot(self, names: Sequence[str], cache_dir: Path | None, *, local_files_only: bool = False) -> Path:
        import huggingface_hub

        folder = huggingface_hub.snapshot_download(
            self.id,
            repo_type=self.kind,
            revision=self.revision,
            token=self.token,
            endpoint=self.endpoint,
            cache_dir=cache_dir,
            allow_patterns=list(names),
            local_files_only=local_files_only,
        )
        return Path(folder)

    def _cached(self, names: Sequence[str], cache_dir: Path | None) -> Path | None:
        """Return the folder in the cache, if it holds any of the files."""
        try:
            folder = self._snapshot(names, cache_dir, local_files_only=True)
        except Exception as error:  # whatever the cache holds, the Hub may have it whole
            logger.debug("%s is not in the cache: %s", self.name, self._text(error))
            return None
        return folder if any((folder / name).is_file() for name in names) else None

    def _check_answers(self, doing: str) -> None:
        problem = hub_problem(self.endpoint)
        if problem is not None:
            raise HubError(self._unanswered(doing, problem))

    def _unanswered(self, doing: str, problem: str) -> str:
        here = f"the {self.kind} repository {shown(self.id)} cannot be {doing}"
        if doing != "fetched":
            return f"{here}: {problem}. Check the network."
        kind = "" if self.kind == "model" else f" --repo-type {self.kind}"
        return (
            f"{here}: it is not in the cache, and {problem}. Check the network, or fetch it where there is one "
            f"(`hf download {self.id}{kind}`) and copy ~/.cache/huggingface here."
        )

    def _hub(self) -> Any:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, token=self.token)

    @contextmanager
    def _explained(self, doing: str) -> Iterator[None]:
        """Turn errors into HubError; the original, whose request carries the token, stays out of tracebacks."""
        try:
            yield
        except HubError:
            raise
        except Exception as error:
            raise HubError(self._reason(error, doing)) from None

    def _reason(self, error: Exception, doing: str) -> str:
        from huggingface_hub import errors

        if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
            error = error.__cause__  # why the Hub failed; that the cache lacks the file says less
        here = f"the {self.kind} repository {shown(self.id)}"
        if isinstance(error, errors.GatedRepoError):
            return f"{here} is gated: accept its terms on its page, then log in (`hf auth login`) or pass a token."
        if isinstance(error, errors.RevisionNotFoundError):
            return f"{here} has no branch, tag or commit {shown(self.revision)}."
        if isinstance(error, errors.RepositoryNotFoundError):
            other = self._other_kind()
            if other is not None:
                return f"{shown(self.id)} is a {other} repository, which holds no {KINDS[self.kind]} of this library."
            return (
                f"there is no {self.kind} repository {shown(self.id)}, or it is private: check the name, and log in "
                "(`hf auth login`) or pass a token that may see it."
            )
        if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
            remedy = REMEDIES.get(error.response.status_code, "try again later.")
            return f"{here} cannot be {doing}: {self._text(error)}; {remedy}"
        return (
            f"{here} cannot be {doing}: {self._text(error)}. Check the network, or fetch it where there is one and take "
            "its folder along."
        )

    def _other_kind(self) -> str | None:
        """Return the kind of repository that has this name instead, if the Hub says so."""
        other = "model" if self.kind == "dataset" else "dataset"
        try:
            return other if self._hub().repo_exists(self.id, repo_type=other) else None
        except Exception as error:  # this only makes the report of another error more helpful
            logger.debug("whether %s is a %s is unknown: %s", self.id, other, self._text(error))
            return None

    def _text(self, error: Exception) -> str:
        from huggingface_hub import get_token

        return in_one_line(error, secrets=(self.token, get_token()))
