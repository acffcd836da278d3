"""The file of albumentations transforms that `augmentation` names, kept with a run and a search."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from segtune.errors import InputError
from segtune.files.yamlfile import read_text
from segtune.values import augmentation_file


@dataclass(frozen=True)
class TransformsFile:
    """A file of transforms that was read."""

    path: str  # names the file in messages
    text: str

    @classmethod
    def of(cls, setting: str) -> TransformsFile | None:
        """Read the file that `augmentation` names; None for a level. InputError where it cannot be read."""
        path = augmentation_file(setting)
        if path is None:
            return None
        try:
            return cls(str(path), read_text(path))
        except InputError as error:
            raise InputError(f"augmentation: {mistake}" for mistake in error.mistakes) from None

    @property
    def digest(self) -> str:
        """The SHA-256 digest of the text."""
        return hashlib.sha256(self.text.encode()).hexdigest()
