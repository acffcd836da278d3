"""Write ImageNet weights of encoders to files, to be used on a machine without a network."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from segtune.errors import InputError, SegtuneError
from segtune.files.atomic import replaced_file, write_text
from segtune.files.yamlfile import read_yaml, yaml_of
from segtune.machine import versions
from segtune.models.build import imagenet_encoder
from segtune.models.compatibility import unknown_encoder
from segtune.models.pretrained import NO_WEIGHTS, WEIGHTS_FOLDER, not_loaded, origin, unavailable

ORIGINS = "origins.yaml"
_LIBRARIES = ("segtune", "segmentation-models-pytorch", "timm")


def write_weights(encoders: Iterable[str], folder: Path, force: bool = False) -> Iterator[str]:
    """Write FOLDER/ENCODER.safetensors for each encoder, and their origins to origins.yaml; yield a line for each.

    A file that exists is kept, unless `force` is set. Raises InputError before anything is written if an encoder is
    unknown or has no such weights; raises SegtuneError at the end if some weights could not be downloaded.
    """
    listed = list(dict.fromkeys(encoders))
    if mistakes := [f"encoder: {mistake}" for encoder in listed if (mistake := unknown_encoder(encoder))]:
        raise InputError(mistakes)
    origins = _known_origins(folder)
    wanted = [encoder for encoder in listed if force or not _file(folder, encoder).exists()]
    lost = unavailable(wanted, in_folder=False)
    none = [encoder for encoder, reason in lost.items() if reason == NO_WEIGHTS]
    if none:
        raise InputError(f"encoder: ImageNet weights of {encoder} do not exist; leave it out" for encoder in none)
    for number, encoder in enumerate(listed, start=1):
        place = f"{number}/{len(listed)} {encoder}"
        if encoder not in wanted:
            yield f"{place}: {_file(folder, encoder)} is there already; --force writes it again"
        elif encoder not in lost:
            try:
                origins[encoder] = _write(encoder, _file(folder, encoder))
            except OSError:
                raise  # the folder cannot be written to
            except Exception as error:
                # smp, timm, the hub's client and safetensors each raise errors of their own.
                lost[encoder] = not_loaded(error)
                continue
            write_text(folder / ORIGINS, yaml_of(dict(sorted(origins.items())), width=120))
            size = _file(folder, encoder).stat().st_size / 1e6
            yield f"{place}: {_file(folder, encoder)}, {size:.1f} MB, from {origins[encoder]['from']}"
    if lost:
        reasons = dict.fromkeys(lost.values())
        told = (f"{', '.join(name for name in lost if lost[name] == reason)} {reason}" for reason in reasons)
        raise SegtuneError(f"ImageNet weights of {'; '.join(told)}")
    yield f"all {len(listed)} are in {folder}; {WEIGHTS_FOLDER}={shlex.quote(str(folder))} uses them"


def _file(folder: Path, encoder: str) -> Path:
    return folder / f"{encoder}.safetensors"


def _write(encoder: str, file: Path) -> dict[str, str]:
    """Write an encoder's weights; return where they come from, the file's checksum and the libraries' versions."""
    # Copies: a file can hold no two tensors that share memory.
    tensors = {name: tensor.contiguous().clone() for name, tensor in imagenet_encoder(encoder).state_dict().items()}
    known = versions()
    found = {"from": origin(encoder), **{name: known[name] for name in _LIBRARIES}}
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced_file(file) as temporary:
        mode = temporary.stat().st_mode
        save_file(tensors, temporary, metadata={"format": "pt", "encoder": encoder, **found})
        temporary.chmod(mode)  # safetensors lets only the user read it
        with temporary.open("rb") as written:
            checksum = hashlib.file_digest(written, "sha256").hexdigest()
    return {"sha256": checksum, **found}


def _known_origins(folder: Path) -> dict[str, Any]:
    path = folder / ORIGINS
    if not path.exists():
        return {}
    known = read_yaml(path)
    if not isinstance(known, dict):
        raise InputError(f"{path}: is not the list of origins that this tool writes; move it away")
    return known
