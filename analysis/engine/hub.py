"""Hugging Face hub access, offline unless PRUNING_LAB_ONLINE=1.

Asking the hub without a network costs 23 seconds of retries; the offline answer is immediate.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

ONLINE = "PRUNING_LAB_ONLINE"
MODELS = "PRUNING_LAB_MODELS"
DATA = "PRUNING_LAB_DATA"


def online() -> bool:
    """Say whether the user allowed downloads.

    Returns:
        True when the environment variable PRUNING_LAB_ONLINE is 1.
    """
    return os.environ.get(ONLINE, "") == "1"


def settle() -> None:
    """Choose offline mode, also for libraries that were imported before and read the variable then."""
    if not online():
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"
        for module in ("huggingface_hub.constants", "datasets.config"):
            if module in sys.modules:
                setattr(sys.modules[module], "HF_HUB_OFFLINE", True)  # noqa: B010  (no such attribute to mypy)


settle()


def under(variable: str, name: str) -> Path | None:
    """Find a name inside the folder that an environment variable points at.

    Args:
        variable: environment variable holding a folder, such as PRUNING_LAB_MODELS.
        name: relative name, such as "all-MiniLM-L6-v2" or "sst2/train.jsonl.gz"; never leaves the folder.

    Returns:
        The existing path, or None.
    """
    base = os.environ.get(variable, "")
    if not base or not name or Path(name).is_absolute() or ".." in Path(name).parts:
        return None
    path = Path(base) / name
    return path if path.exists() else None


def cache() -> Path:
    """Find the folder of the hub's cache, links followed; it need not exist.

    Returns:
        $HF_HUB_CACHE where set, else "hub" in $HF_HOME, which is ~/.cache/huggingface where it is not set.
    """
    named = os.environ.get("HF_HUB_CACHE")
    path = Path(named) if named else Path(os.environ.get("HF_HOME") or "~/.cache/huggingface") / "hub"
    return path.expanduser().resolve()


def looks_like_path(name: str) -> bool:
    """Tell a path from a hub id by its spelling.

    Args:
        name: what the user typed.

    Returns:
        True for absolute names, names starting with "." or "~", and names with more than one slash.
    """
    return name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name


def snapshot(
    repo: str, patterns: tuple[str, ...], fail: Callable[[str], Exception], *, local: bool = False
) -> Path:
    """Return the local folder of a hub repository, from the cache, or by download when downloads are allowed.

    Args:
        repo: hub id such as "google-bert/bert-base-uncased".
        patterns: file patterns worth downloading; weights in pickle form and code are never among them.
        fail: builds the exception from the reason why the repository is not available.
        local: look into the cache only, whatever is allowed.

    Returns:
        The folder holding the repository's files.

    Raises:
        Exception: what `fail` builds, when the repository is not on this machine and cannot be fetched.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        only = local or not online()
        return Path(snapshot_download(repo, allow_patterns=list(patterns), local_files_only=only))
    except HFValidationError as error:
        raise fail("is not a valid hub id") from error
    except LocalEntryNotFoundError as error:
        raise fail("is not in the Hugging Face cache of this machine") from error
    except (HfHubHTTPError, OSError) as error:
        raise fail(f"could not be fetched from the hub ({type(error).__name__})") from error
