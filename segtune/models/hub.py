"""Push a saved model to the Hugging Face hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from huggingface_hub import get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.utils._validators import validate_repo_id
from torch import nn

from segtune.errors import InputError, one_line
from segtune.files.atomic import MANIFEST, MODEL_FILES
from segtune.models.card import has_metadata, write_card
from segtune.models.manifest import Manifest


def check_repo(repo: str) -> None:
    """Raise InputError if a repository cannot have this name, or nobody is logged in."""
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise InputError(f"--push-to-hub: {repo}: not the name of a repository ({one_line(error)})") from None
    if get_token() is None:
        raise InputError("--push-to-hub: no token of the hub is here; log in with `hf auth login`, or set HF_TOKEN")


def push_model(model: nn.Module, folder: Path, repo: str) -> str:
    """Push the files of a model's folder to a repository, USER/NAME, in one commit; return the commit's address.

    smp's own `push_to_hub` does it. It uploads what the model's `save_pretrained` writes; here those are the folder's
    weights, config.json, model card and run.yaml, without what run.yaml says of the machine: `Manifest.hide_machine`. A
    card of an older release is written anew. A repository that does not exist is made. Raises InputError if the hub
    cannot be reached or refuses.
    """
    check_repo(repo)

    def save_pretrained(place: Path, **_: Any) -> None:
        place.mkdir(parents=True, exist_ok=True)
        for name in MODEL_FILES:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, place / name)
        if (place / MANIFEST).is_file():
            Manifest.hide_machine(place / MANIFEST)
            if not has_metadata(place):  # of an older release
                write_card(place)

    model.save_pretrained = save_pretrained  # type: ignore[assignment]
    try:
        return str(model.push_to_hub(repo))  # type: ignore[operator]
    except HfHubHTTPError as error:
        raise InputError(f"--push-to-hub: {repo}: the hub refuses ({one_line(error)})") from None
    except Exception as error:
        # The hub's client passes on whatever its HTTP library raises.
        raise InputError(f"--push-to-hub: {repo}: the hub cannot be reached ({one_line(error)})") from None
    finally:
        del model.save_pretrained
