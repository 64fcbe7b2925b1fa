"""An exported folder on the Hugging Face Hub: a repository, a branch, and the files, by huggingface_hub."""

from __future__ import annotations

import logging
import shlex
import time
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

from tevatron_distill.schema import InputError

logger = logging.getLogger(__name__)

WAITS = (2.0, 8.0)
"""Seconds before a push is tried again. Uploads try each request several times on their own; what comes before and
after them (repository, branch, commit) does not."""
TEMPORARY = (408, 429, 500, 502, 503, 504)


def check_push(model_id: str) -> None:
    """See, before any work, that there is a name to push to, and a token.

    Raises:
        InputError: if one is missing.
    """
    try:
        validate_repo_id(model_id)
    except ValueError as error:
        raise InputError(f"--hub_model_id must be ORGANISATION/NAME, or NAME; got {model_id!r}") from error
    if get_token() is None:
        raise InputError("--push_to_hub needs a token that may write; found none; set HF_TOKEN or run `hf auth login`")


def push(folder: str | Path, model_id: str, revision: str | None = None, private: bool = False) -> str:
    """Put a folder's files on the hub, in one commit where they are not many.

    The token is huggingface_hub's: ``HF_TOKEN``, or what ``hf auth login`` has left; the hub that of ``HF_ENDPOINT``.
    Files that the repository has already, unchanged, are not sent again; other files of it stay.

    Args:
        folder: the exported folder; it stays as it is whatever happens.
        model_id: ``ORGANISATION/NAME``, or ``NAME`` in the token's own namespace; made where it does not exist.
        revision: a branch, made where it does not exist; None for the main one.
        private: only those with the right may see the repository.

    Returns:
        The repository's address.

    Raises:
        InputError: if it failed, with the command that goes on; or the repository is public and must be private.
    """
    check_push(model_id)
    waits = iter(WAITS)
    while True:
        try:
            return _push(Path(folder), model_id, revision, private)
        except InputError:
            raise
        except (HTTPError, OSError, ValueError, RuntimeError) as error:
            wait = next(waits, None) if is_temporary(error) else None
            if wait is None:
                raise InputError(
                    f"{folder} is whole, but was not pushed to {model_id}: {reason(error)}; "
                    f"then go on with: {command(folder, model_id, revision, private)}"
                ) from error
            logger.warning("pushing to %s failed (%s); trying again in %g s", model_id, reason(error), wait)
            time.sleep(wait)


def _push(folder: Path, model_id: str, revision: str | None, private: bool) -> str:
    api = HfApi(library_name="tevatron_distill")
    url = api.create_repo(model_id, private=private or None, exist_ok=True)
    if private and not api.repo_info(url.repo_id).private:
        raise InputError(
            f"--hub_private_repo: {url} exists and everybody can read it; nothing was pushed; make it private in its "
            f"settings, or give another --hub_model_id; {folder} is whole"
        )
    if revision is not None:
        api.create_branch(url.repo_id, branch=revision, exist_ok=True)
    api.upload_folder(
        repo_id=url.repo_id, folder_path=folder, revision=revision, commit_message="Student of tevatron_distill"
    )
    return str(url) if revision is None else f"{url}/tree/{revision}"


def command(folder: str | Path, model_id: str, revision: str | None, private: bool) -> str:
    """What pushes a folder from the command line.

    >>> command("my student", "org/name", "v2", True)
    "hf upload org/name 'my student' . --revision v2 --private"
    """
    words = ["hf", "upload", model_id, str(folder), "."]
    words += ["--revision", revision] if revision is not None else []
    return shlex.join([*words, *(["--private"] if private else [])])


def root(error: BaseException) -> BaseException:
    """The request that failed, where an upload's own error hides it."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def status(error: BaseException) -> int | None:
    """The HTTP status that an error came with."""
    response: Any = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def is_temporary(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    error = root(error)
    if isinstance(error, OfflineModeIsEnabled):
        return False
    code = status(error)
    return code in TEMPORARY if code is not None else isinstance(error, HTTPError | ConnectionError | TimeoutError)


def reason(error: BaseException) -> str:
    """Why a push failed, and what to do, in one line."""
    error = root(error)
    said = " ".join(str(getattr(error, "server_message", None) or error).split())[:300]
    known = {
        401: "the hub does not know the token (401); set HF_TOKEN or run `hf auth login`",
        403: f"the token has no right to write there (403: {said}); take one that has, or another --hub_model_id",
        404: "the hub has no model repository of that name that the token can see (404); it may be a dataset or a "
        "space, or need another token",
    }
    code = status(error)
    if code in known:
        return known[code]
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set; unset it"
    if code is not None:
        return f"the hub answered {code} ({said})" + ("; wait a little" if code in TEMPORARY else "; mend that")
    if is_temporary(error):
        return f"no connection to the hub ({said or type(error).__name__}); see that there is one"
    return f"{said or type(error).__name__}; mend that"
