"""Asking the hub: again after an outage, with a said wait; what it refuses, in one line.

huggingface_hub asks again for a file's head, and goes on where a connection ended, with our help
where one was reset, too. Where the list of files or a file's body is answered with 503 it gives up:
there `ask` asks again. A model is downloaded by `fetch` before anything of it is read, and read by
its commit from the cache: a branch that moves meanwhile changes nothing, and an outage after the
download is not noticed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from slimlib.common import progress
from slimlib.common.checked import did_you_mean, masked
from slimlib.common.files import read_json

WAITS = (2.0, 8.0, 30.0)  # seconds before the hub is asked again
PASSING = (408, 429, 500, 502, 503, 504)  # statuses of an outage
# What a model's answers depend on beside its weights.
SMALL = ("*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt")
COMMIT = re.compile(r"[0-9a-f]{40}")  # names one content for ever
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
Answer = TypeVar("Answer")


class HubError(ValueError):
    """The hub refuses, or does not answer.

    Args:
        problem: in words.
        way_out: of it.
    """

    def __init__(self, problem: str, way_out: str) -> None:
        problem = masked(problem)  # of a name that holds one
        super().__init__(problem, way_out)
        self.problem, self.way_out = problem, way_out

    def __str__(self) -> str:
        return f"{self.problem}: {self.way_out}"


class Outage(HubError):
    """It may answer later."""


def ask(
    call: Callable[[], Answer], name: str, revision: str | None = None, kind: str = "model"
) -> Answer:
    """What `call` finds on the hub; after an outage it is called again, with a said wait.

    Args:
        call: whatever asks the hub, through huggingface_hub, transformers or datasets.
        name: of the repository, for the message.
        revision: likewise.
        kind: "model" or "dataset".

    Raises:
        HubError: refused, not there, or no answer after several times.
    """
    _go_on_after_resets()
    for wait in (*WAITS, None):
        try:
            return call()
        except Exception as error:
            refused = _in_words(error, name, revision, kind)
            if refused is None:  # nothing that the hub said
                raise
            if wait is None or not isinstance(refused, Outage):
                raise refused from None
        progress.say(f"{refused.problem}; asked again in {wait:.0f} s")
        time.sleep(wait)
    raise AssertionError("the last turn returns or raises")


@functools.cache
def _go_on_after_resets() -> None:
    """Have huggingface_hub take a connection that was reset as one that ended early.

    It goes on in the middle of a file after that (httpx's RemoteProtocolError), and begins the file
    anew after the other (ReadError). Its sessions are made by a factory: it closes one at each
    ConnectError and in a forked process, and the next has to do so, too.
    """
    import httpx
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    class Ended(httpx.SyncByteStream):
        """The same stream, another error."""

        def __init__(self, stream: httpx.SyncByteStream) -> None:
            self.stream, self.close = stream, stream.close

        def __iter__(self) -> Iterator[bytes]:
            try:
                yield from self.stream
            except httpx.ReadError as error:
                raise httpx.RemoteProtocolError(str(error)) from error

    def hook(response: httpx.Response) -> None:
        response.stream = Ended(response.stream)

    make = _http._GLOBAL_CLIENT_FACTORY  # huggingface_hub's, or one that the user has set

    def session() -> httpx.Client:
        made = make()
        made.event_hooks["response"].append(hook)
        return made

    set_client_factory(session)


def fetch(
    name: str,
    revision: str | None = None,
    files: Sequence[str] = SMALL,
    kind: str = "model",
) -> Path:
    """Download files of a repository that are not here yet; the folder that has them.

    Args:
        name: hub id.
        revision: branch, tag or commit; None: main.
        files: patterns; those that match nothing are left out.
        kind: "model" or "dataset".

    Returns:
        The folder in the hub's cache; its name is the commit. Asked twice, one process gets the
        same commit twice.

    Raises:
        HubError: refused, not there, or no answer and not in the cache.
    """
    from huggingface_hub import snapshot_download

    known = _folders.get((name, revision, kind, tuple(files)))
    if known and known.is_dir():
        return known
    commit = _commits.get((name, revision, kind), revision)
    how = {"revision": commit, "repo_type": kind, "allow_patterns": [*files]}
    quiet = progress.no_other_bars() if files is SMALL else contextlib.nullcontext()
    with quiet:
        folder = Path(ask(lambda: snapshot_download(name, **how), name, revision, kind))
    for asked in (revision, folder.name):
        _commits[name, asked, kind] = folder.name
        _folders[name, asked, kind, tuple(files)] = folder
    return folder


# Of this process: what a revision meant when first asked for, and what is known to be here.
_commits: dict[tuple[str, str | None, str], str] = {}
_folders: dict[tuple[str, str | None, str, tuple[str, ...]], Path] = {}


def fetched(name: str, revision: str | None = None, weights: bool = False) -> dict[str, Any]:
    """Download a model; transformers' `revision` and `local_files_only` to read it with.

    Args:
        name: hub id; of a folder or a file nothing is downloaded.
        revision: branch, tag or commit; None: main.
        weights: those in safetensors, too; else the small files alone.

    Raises:
        HubError: as `fetch`.
    """
    if Path(name).exists():
        return {}
    folder = fetch(name, revision)
    if weights:
        fetch(name, revision, _weight_files(folder))
    return {"revision": folder.name, "local_files_only": True}


def _weight_files(folder: Path) -> list[str]:
    """The files of weights that transformers would read; a repository may have others, too."""
    index = folder / INDEX
    if not index.is_file():
        return [WEIGHTS]
    return [WEIGHTS, *sorted({*read_json(index).get("weight_map", {}).values()})]


def hub_file(name: str, file: str, revision: str | None = None) -> Path | None:
    """The path of a file of a folder or a repository; None where it has no such file."""
    files = SMALL if any(fnmatch(file, pattern) for pattern in SMALL) else (file,)
    folder = Path(name) if Path(name).is_dir() else fetch(name, revision, files)
    return folder / file if (folder / file).is_file() else None


def at_hand(name: str) -> Path | None:
    """The folder of a model's weights if it is on this machine; nothing is downloaded.

    Args:
        name: a folder, or a hub id, which is looked for in the hub's cache.

    Example: `at_hand("HuggingFaceTB/SmolLM2-135M-Instruct")` -> None where it was never loaded.
    """
    from huggingface_hub import try_to_load_from_cache

    if Path(name).is_dir():
        return Path(name) if any(Path(name).glob("*.safetensors")) else None
    try:
        found = try_to_load_from_cache(name, WEIGHTS)
    except ValueError:  # no hub id (HFValidationError)
        return None
    return Path(found).parent if isinstance(found, str) else None


def find_commit(name: str, revision: str | None = None, kind: str = "model") -> str | None:
    """The commit that a revision means, of a repository whose files may be read.

    None of a data set where HF_HUB_OFFLINE is set: its rows alone are in the cache then.

    Raises:
        HubError: gated, not there, no such revision, a wrong token, no answer, or not in the cache
            of a machine that is offline.
    """
    from huggingface_hub import HfApi, auth_check, constants

    def asked() -> str:
        auth_check(name, repo_type=kind)
        return HfApi().repo_info(name, revision=revision, repo_type=kind).sha

    if constants.HF_HUB_OFFLINE:
        return fetch(name, revision).name if kind == "model" else None
    return ask(asked, name, revision, kind)


def cached_rows(name: str, config: str | None = None) -> str | None:
    """The commit of the rows that were made last in the cache of `datasets`, or None.

    They are those that `datasets` takes while the hub does not answer. Each configuration of a data
    set is downloaded by itself, and may be of a commit of its own.

    Args:
        name: of the data set.
        config: of it, as `load_dataset` takes it; None: any.
    """
    from huggingface_hub import constants

    home = Path(os.environ.get("HF_DATASETS_CACHE", Path(constants.HF_HOME) / "datasets"))
    wanted = name.replace("/", "___")
    folders = [f for f in home.glob("*") if _in_snake_case(f.name) == _in_snake_case(wanted)]
    below = f"{escape(config) if config else '*'}/*/*"
    made = [m for f in folders for m in f.glob(below) if COMMIT.fullmatch(m.name)]
    return max(made, key=lambda path: path.stat().st_mtime).name if made else None


def _in_snake_case(name: str) -> str:
    """A name but for what `datasets` changes of it."""
    return name.replace("_", "").lower()


# ------------------------------------------------------------------------------- what went wrong


def _in_words(error: BaseException, name: str, revision: str | None, kind: str) -> HubError | None:
    """An error of the hub's, in one line; None for any other."""
    for cause in _causes(error):
        if isinstance(cause, HubError):
            return cause
        if words := _refusal(cause, name, revision, kind):
            return words
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _refusal(error: BaseException, name: str, revision: str | None, kind: str) -> HubError | None:
    from huggingface_hub import constants, errors, get_token

    hub = masked(constants.ENDPOINT)
    name = getattr(error, "repo_id", None) or name  # a task's is not known before
    page = f"{hub}/{'datasets/' if kind == 'dataset' else ''}{name}"
    if isinstance(error, errors.HFValidationError):
        return HubError(f"{name!r} does not exist here", "nor can it be a hub id: check the name")
    if isinstance(error, errors.GatedRepoError):
        if get_token():
            way_out = f"accept the licence on {page} with the account whose token HF_TOKEN is"
            return HubError(f"{name} is gated, and the token that is set has no access", way_out)
        token = "set HF_TOKEN (on Colab: the secret of that name) to a token of your account"
        return HubError(f"{name} is gated", f"accept the licence on {page}, and {token}")
    if isinstance(error, errors.RepositoryNotFoundError):
        way_out = "check the name, or set HF_TOKEN to a token that may read it"
        return HubError(f"{name}: the hub has no such {kind}, or it is private", way_out)
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"{name} has no revision {revision}", f"see {page}/commits/main")
    if _status(error) == 401:
        way_out = f"make a new one on {hub}/settings/tokens, set HF_TOKEN to it, or unset it"
        return HubError(f"{name}: the hub does not know the token that is set", way_out)
    if type(error).__name__ == "DatasetNotFoundError":  # of datasets, which drops the cause
        return HubError(str(error).rstrip("."), f"see {page}, and set HF_TOKEN if it is gated")
    if _not_cached(error):
        where = f"this machine's cache ({constants.HF_HOME})"
        way_out = "HF_HUB_OFFLINE is set: unset it, to download what is missing once"
        what = f"{name}{_at(revision)} is not, or not whole, in {where}"
        if kind == "model" and "/" not in name:  # nearly all names of the hub have an owner
            near = did_you_mean(name, [path.name for path in Path().iterdir() if path.is_dir()])
            what = f"{name} is no folder here, and is not, or not whole, in {where}{near}"
        return HubError(what, way_out)
    return _outage(error, f"{name}{_at(revision)}", hub)


def _outage(error: BaseException, what: str, hub: str) -> Outage | None:
    """What may pass: no answer, a status of the server's, a body that ends early."""
    import httpx  # what huggingface_hub asks with; some of its errors are no OSError

    status = _status(error)
    cut = isinstance(error, OSError) and str(error).startswith("Consistency check failed")
    # ConnectionError: of datasets
    if not (isinstance(error, httpx.TransportError | ConnectionError) or cut or status in PASSING):
        return None
    said = f"status {status}" if status else "a file cut short" if cut else type(error).__name__
    return Outage(
        f"{what}: the hub ({hub}) does not answer ({said}{_file(error)})",
        f"it was asked {len(WAITS) + 1} times; run this again later, whole files are kept",
    )


def _status(error: BaseException) -> int | None:
    from huggingface_hub.errors import HfHubHTTPError

    return error.response.status_code if isinstance(error, HfHubHTTPError) else None


def _not_cached(error: BaseException) -> bool:
    from huggingface_hub import constants, errors

    kinds = (errors.LocalEntryNotFoundError, ConnectionError)
    return isinstance(error, kinds) and constants.HF_HUB_OFFLINE


def _at(revision: str | None) -> str:
    return f"@{revision}" if revision else ""


def _file(error: BaseException) -> str:
    """The file that was asked for, as far as the error knows it."""
    request = getattr(error, "_request", None)  # httpx's `request` raises where there is none
    path = request.url.path if request else ""
    file = unquote(path).partition("/resolve/")[2].partition("/")[2]
    return f" for {file}" if file else ""
