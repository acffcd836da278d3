"""What lies where a model is expected: sound weights, a damaged file, or a file of another kind."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from segtune.errors import first_few
from segtune.files.atomic import WEIGHTS

_LENGTH = 8  # bytes in which a safetensors file says how long its header is
_LONGEST_HEADER = 100_000_000  # bytes, as the library has it
_PICKLES = (".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".tar")
_EXPORTED = {".onnx": "ONNX", ".pt2": "torch.export", ".torchscript": "TorchScript"}
_STARTS = {b"\x89HDF": "an HDF5 file", b"version https://git-lfs": "a pointer of Git LFS", b"<": "a web page"}
_WITHOUT_CODE = (
    "and loading one can run code that is stored in it; if you trust it, load it in a program of yours, and write it "
    "with smp's model.save_pretrained(FOLDER)"
)
_OF_MODEL = "give the folder of the model that it was exported from"


def damage(path: Path) -> str | None:
    """Return why a file holds no weights of safetensors, such as ``is a pickle``; None if it is sound by its header."""
    size = path.stat().st_size
    if size == 0:
        return "is empty"
    with path.open("rb") as file:
        start = file.read(_LENGTH + 1)
        length = int.from_bytes(start[:_LENGTH], "little")
        if start[_LENGTH:] != b"{" or length > _LONGEST_HEADER:
            return _other_kind(path)
        if _LENGTH + length > size:
            return f"is cut off: it has {size:,} bytes, and its header alone has {_LENGTH + length:,}"
        file.seek(_LENGTH)
        header = file.read(length)
    try:
        tensors = {name: entry for name, entry in json.loads(header).items() if name != "__metadata__"}
        end = _LENGTH + length + max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "has a damaged header"
    return f"is cut off: it has {size:,} of {end:,} bytes" if size < end else None


def _other_kind(path: Path) -> str:
    """Return what a file is that is not of safetensors, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(64)
    if start[:2] == b"PK":
        return "is a TorchScript file, not one of safetensors" if _scripted(path) else f"is a pickle, {_WITHOUT_CODE}"
    if start[0] == 0x80 and 2 <= start[1] <= 5:  # the number of a protocol
        return f"is a pickle, {_WITHOUT_CODE}"
    if start[0] == 0x08 and start[1] < 32:  # ONNX begins with the version of its format
        return "is an ONNX file, not one of safetensors"
    kind = next((text for magic, text in _STARTS.items() if start.startswith(magic)), None)
    fetch = "; git lfs pull fetches the file itself" if start.startswith(b"version") else ""
    return f"is {kind}, not a file of safetensors{fetch}" if kind else "is not a file of safetensors, or is damaged"


def _scripted(path: Path) -> bool:
    """Return whether a zip archive holds code, as TorchScript does."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False


def no_model_file(path: Path) -> str:
    """Return why an existing file that somebody named is no model."""
    kind = _EXPORTED.get(path.suffix.lower())
    if kind is None and path.suffix.lower() in (".pt", ".ts") and _scripted(path):
        kind = "TorchScript"
    if kind:
        return f"is a {kind} file, which does not say what its classes and bands are; {_OF_MODEL}"
    if path.suffix.lower() in _PICKLES:
        return f"is a pickle, {_WITHOUT_CODE}"
    if path.suffix == ".safetensors":
        return f"is not named {WEIGHTS}; give the folder of a model, which also holds config.json"
    return f"is not a model; a model is a folder with {WEIGHTS}, as smp's save_pretrained writes"


def no_model_folder(folder: Path) -> str:
    """Return what a folder without weights of its own holds instead."""
    names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    if models := list(models_below(folder)):
        trials = f"; a search without a winner yet: -cd {folder} --trial N takes one of them"
        which = trials if (folder / "search.yaml").is_file() else f"; name one of them, such as -cd {models[0]}"
        return f"holds no {WEIGHTS} itself, but models in {first_few((path.name for path in models), 3)}{which}"
    pickles = [name for name in names if Path(name).suffix.lower() in _PICKLES]
    tensors = [name for name in names if name.endswith(".safetensors")]
    if tensors:
        return f"holds no {WEIGHTS}, but {first_few(tensors, 3)}; smp's save_pretrained writes one file of that name"
    if pickles:
        return f"holds no {WEIGHTS}, but {first_few(pickles, 3)}: pickles, {_WITHOUT_CODE}"
    return f"holds no model: neither {WEIGHTS} nor best/{WEIGHTS}" if names else "is empty; a model was expected"


def models_below(folder: Path) -> Iterator[Path]:
    """Yield the folders in a folder that are models, or runs with one."""
    for path in sorted(folder.iterdir()):
        if path.name[0] != "." and any((path / place / WEIGHTS).is_file() for place in ("", "best")):
            yield path
