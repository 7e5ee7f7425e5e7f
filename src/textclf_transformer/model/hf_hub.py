"""Published weights by their name on Hugging Face's hub, through the client ``huggingface_hub``.

The client is an extra of this package. What it finds depends on its own settings (``HF_HOME``,
``HF_HUB_OFFLINE``, ``HF_TOKEN`` …), which are left as they are.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from textclf_transformer.errors import ConfigError, printable
from textclf_transformer.experiment import is_hub_name
from textclf_transformer.model.hf_config import CONFIG_FILE
from textclf_transformer.model.hf_folder import HEAD_CONFIG_FILE, HEAD_WEIGHTS_FILE, PICKLE_FILE, WEIGHTS_FILE
from textclf_transformer.utils import check_path

_OPTIONAL = ("tokenizer.json", "tokenizer_config.json", HEAD_CONFIG_FILE, HEAD_WEIGHTS_FILE)


def local_folder(source: Path | str) -> Path:
    """Return the folder that ``source`` means.

    Args:
        source: a folder, or a model on the hub: a str ``owner/name`` or ``owner/name@revision`` that is no
            folder here.

    Raises:
        ConfigError: ``source`` is no path; see ``fetch_from_hub``.
    """
    check_path(source, "folder", expected="a folder, or owner/name of a model on the hub")
    if isinstance(source, str) and is_hub_name(source, Path.cwd()):
        return fetch_from_hub(source)
    return Path(source)


def fetch_from_hub(name: str) -> Path:
    """Return the folder in the client's cache with one revision's files; what it lacks is downloaded.

    Args:
        name: ``owner/name`` or ``owner/name@revision``.

    Raises:
        ConfigError: there is no client, no network where it is needed, no such model or revision, or the
            model lacks config.json or weights.
    """
    repository, _, revision = name.partition("@")
    client = _client(name)
    config = _download(client, name, repository, CONFIG_FILE, revision or "main")
    if config is None:
        raise _unreachable(name, found=f"no {CONFIG_FILE}")
    commit = config.parent.name  # a branch may move between two files, its commit does not
    weights = (_download(client, name, repository, file, commit) for file in (WEIGHTS_FILE, PICKLE_FILE))
    if not any(weights):
        raise _unreachable(name, found=f"neither {WEIGHTS_FILE} nor {PICKLE_FILE}")
    for file in _OPTIONAL:
        _download(client, name, repository, file, commit)
    return config.parent


def pinned_name(name: str) -> str:
    """Return ``name`` with the commit that it stands for now, so that it keeps meaning the same weights.

    Raises:
        ConfigError: see ``fetch_from_hub``.
    """
    return f"{name.partition('@')[0]}@{fetch_from_hub(name).name}"


def _client(name: str) -> ModuleType:
    try:
        import huggingface_hub.errors
    except ImportError as fault:
        raise ConfigError(
            "there is no such folder, and the client of Hugging Face's hub cannot be imported",
            where=name,
            found=fault,
            mend="name a folder that has the files, or pip install huggingface_hub",
        ) from fault
    return huggingface_hub


def _download(client: Any, name: str, repository: str, file: str, revision: str) -> Path | None:
    """Return a file in the cache, None where the model has none (or, without network, the cache)."""
    try:
        cached = client.try_to_load_from_cache(repository, file, revision=revision)
        if cached is not None and not isinstance(cached, str):  # the cache knows that there is no such file
            return None
        return Path(client.hf_hub_download(repository, file, revision=revision))
    except client.errors.LocalEntryNotFoundError as fault:
        if file == CONFIG_FILE:  # nothing of the model is here, and the hub does not answer
            raise _unreachable(name, found=fault) from fault
        return None
    except client.errors.EntryNotFoundError:
        return None
    except (
        Exception
    ) as fault:  # of the client, of its HTTP library, of the system: each has classes of its own
        raise _unreachable(name, found=fault) from fault


def _unreachable(name: str, *, found: object) -> ConfigError:
    first_line = str(found).strip().split("\n", maxsplit=1)[0][:300] or type(found).__name__
    return ConfigError(
        "there is no such folder, and no such model could be had from Hugging Face's hub",
        where=name,
        found=printable(first_line),
        expected="a folder, or owner/name of a model in the client's cache or within reach",
        mend="check the name and the network, HF_HUB_OFFLINE and HF_HOME among it",
    )
