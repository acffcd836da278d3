"""Open the files of a scene on the grid of its image, and read parts of them as they are stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio._err import CPLE_BaseError  # errors of PROJ that rasterio does not wrap
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform as reproject

from segtune.data.alignment import Georeference, difference, georeference_of
from segtune.data.formats import UPRIGHT
from segtune.data.georeference import Place
from segtune.data.raster import Raster, Span, opened, opened_together, reading
from segtune.data.reading import Valid, has_data
from segtune.errors import InputError
from segtune.tools.outlines import Outlines, burnt
from segtune.tools.scenes import IMAGES, MASKS, Scene

_POINTS = 128  # along each side of a scene, where it is looked which other files reach there
RESAMPLINGS = ("nearest", "bilinear", "cubic", "average")
_RGB = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)

Pixels = npt.NDArray[Any]  # (bands, H, W)
Values = npt.NDArray[np.float64]  # (N,)
Reaches = tuple[tuple[Path, float], ...]


@dataclass(frozen=True)
class Form:
    """What the files of tiles keep of a scene's file, besides its pixels and its place."""

    dtype: str
    bands: int
    nodata: float | None = None
    alpha: int | None = None  # the band, counted from 1
    rgb: bool = False  # whether the first three bands are red, green and blue
    palette: dict[int, tuple[int, int, int, int]] | None = None
    descriptions: tuple[str | None, ...] = ()

    def seen(self, pixels: Pixels) -> Valid:
        """Return which pixels, (H, W), hold data by their values alone: nodata and alpha."""
        bands = [band for band in range(len(pixels)) if band + 1 != self.alpha]
        valid = has_data(pixels[bands], [self.nodata] * len(bands))
        return valid if self.alpha is None else valid & (pixels[self.alpha - 1] > 0)


class Layer(Protocol):
    """A file of a scene, or its outlines, on the grid of the scene's image."""

    folder: str  # of its tiles: images, gt, or the name of a channel
    form: Form
    reaches: Reaches  # of files on another grid: which share of the scene each covers

    def read(self, span: Span) -> tuple[Pixels, Valid]:
        """Return these rows and columns as they are stored, and which pixels, (H, W), hold data."""


@dataclass(frozen=True)
class _OnGrid(Raster):
    """A file of another grid, resampled onto that of the scene's image."""

    reach: float = 1.0  # share of the scene that the file covers
    added: int | None = None  # the band that says which pixels the file reaches; it is none of the file's own

    @property
    def bands(self) -> int:
        """The number of bands of the file itself."""
        return self.source.count - (self.added is not None)

    def read(self, without: int | None = None, span: Span | None = None) -> tuple[Pixels, list[float | None]]:
        """Read the pixels, (bands, H, W), and the nodata value of each band."""
        return super().read(self.added if without is None else without, span)

    def mask(self, span: Span | None = None) -> Valid | None:
        """Read which pixels, (H, W), the file reaches with data: what it lacks, the other files cannot replace."""
        if self.added is not None:
            return self.source.read(self.added, window=span) > 0
        return (self.source.read_masks(window=span) > 0).any(axis=0)


def _reaches(files: Sequence[Raster]) -> Reaches:
    return tuple((file.path, file.reach) for file in files if isinstance(file, _OnGrid))


class ImageLayer:
    """The bands of a scene's image."""

    folder = IMAGES

    def __init__(self, raster: Raster) -> None:
        self._raster, self._alpha = raster, raster.alpha
        sources = [raster.source, *(file.source for file in raster.files)]
        self.reaches = _reaches(raster.files)
        dtype = np.result_type(*(source.dtypes[0] for source in sources)).name
        declared = [value for source in sources for value in source.nodatavals]
        first, common = declared[0], len({repr(value) for value in declared}) == 1
        names = [
            *raster.source.descriptions,
            *(n for file in raster.files for n in file.source.descriptions[: file.bands]),
        ]
        self.form = Form(
            dtype=dtype,
            bands=raster.bands,
            nodata=_fitting(first, dtype) if common else None,
            alpha=raster.alpha if raster.alpha == raster.bands else None,  # a GeoTIFF has it last
            rgb=tuple(raster.source.colorinterp[:3]) == _RGB,
            palette=_palette(raster) if raster.bands == 1 else None,
            descriptions=tuple(names) if len(names) == raster.bands else (),
        )

    def read(self, span: Span) -> tuple[Pixels, Valid]:
        """Return these rows and columns as they are stored, and which pixels, (H, W), hold data."""
        with reading(self._raster.path, "an image"):
            pixels, declared = self._raster.read(span=span)
            bands = [band for band in range(len(pixels)) if band + 1 != self._alpha]
            valid = has_data(pixels[bands], [declared[band] for band in bands])
            if (mask := self._raster.mask(span)) is not None:
                valid &= mask
        if self._alpha:
            valid &= pixels[self._alpha - 1] > 0
        return pixels, valid


class BandLayer:
    """An extra channel or a mask of a scene: one band.

    Pixels of a mask that its file does not reach get the label `background`. If the file has a mask of its own, they
    have no label.
    """

    def __init__(self, raster: Raster, folder: str, background: int | None = None) -> None:
        self.folder, self._raster, self._background = folder, raster, background
        self.reaches = _reaches([raster])
        source = raster.source
        dtype = source.dtypes[0]
        if background is not None and not _holds(dtype, background):
            raise InputError(f"--background: {background} does not fit {raster.path}, whose pixels are {dtype}")
        declares = source.src_dataset if isinstance(source, WarpedVRT) else source
        self.form = Form(dtype, 1, _fitting(declares.nodatavals[0], dtype), palette=_palette(raster))

    def read(self, span: Span) -> tuple[Pixels, Valid]:
        """Return these rows and columns as they are stored, and which pixels, (H, W), hold data."""
        source, alpha = self._raster.source, self._raster.alpha
        warped = isinstance(source, WarpedVRT)
        with reading(self._raster.path, "an image" if self._background is None else "a mask"):
            pixels = source.read([1], window=span)
            # GDAL takes alpha for a mask in uint8 and uint16 only.
            valid = source.read(alpha, window=span) > 0 if warped and alpha else source.read_masks(1, window=span) > 0
        if self._background is None:
            return pixels, valid
        # A declared nodata value of a mask may be a label that is in use: only its file's own mask counts.
        if not warped:
            own = self._raster.mask(span)
            return pixels, np.ones(valid.shape, bool) if own is None else own
        pixels[0][~valid] = self._background
        masked = MaskFlags.per_dataset in source.src_dataset.mask_flag_enums[0]
        return pixels, valid if masked else np.ones(valid.shape, bool)


class OutlineLayer:
    """Outlines of objects, as a mask: the label of what covers the centre of a pixel, else `background`."""

    folder = MASKS
    reaches: Reaches = ()

    def __init__(self, outlines: Outlines, background: int) -> None:
        self._outlines, self._background = outlines, background
        self.form = Form(outlines.dtype, 1)

    def read(self, span: Span) -> tuple[Pixels, Valid]:
        """Return the labels, (1, H, W), in these rows and columns; all pixels hold data."""
        labels = burnt(self._outlines, span, self._background)
        return labels[None], np.ones(labels.shape, bool)


@dataclass(frozen=True)
class OpenScene:
    """The open files of a scene: its image first, then its channels, and its mask last where there is one."""

    height: int
    width: int
    place: Place
    layers: tuple[Layer, ...]


@contextmanager
def opened_layers(
    scene: Scene, outlines: Outlines | None, resample: str | None, background: int
) -> Iterator[OpenScene]:
    """Open the files of a scene.

    Parameters
    ----------
    scene: the files.
    outlines: those of the scene's mask, if it is a file of outlines and they are prepared.
    resample: how a channel, or a band of a list, of another grid is brought onto the image's; masks take the nearest
        label.
    background: the label of pixels that a mask does not reach.

    Raises InputError where a file cannot be read, has several bands though it is a channel or a mask, or lies on
    another grid while `resample` is None.
    """
    with ExitStack() as stack:
        image = stack.enter_context(opened_together(scene.image, "an image", any_format=True))
        image = replace(image, files=[_on_grid(stack, file, image, resample, "a band") for file in image.files])
        _check_upright(image)
        layers: list[Layer] = [ImageLayer(image)]
        for name, path in scene.channels:
            raster = _aligned(stack, path, image, resample, "an extra channel")
            layers.append(BandLayer(raster, name))
        if scene.mask and not scene.outlined:
            raster = _aligned(stack, scene.mask, image, resample and "nearest", "a mask")
            layers.append(BandLayer(raster, MASKS, background))
        if outlines:
            layers.append(OutlineLayer(outlines, background))
        found = OpenScene(*image.size, image.place, tuple(layers))
        still_open = stack.pop_all()
    try:  # not inside the contexts: they take each OSError for one of reading
        yield found
    finally:
        still_open.close()


def _fitting(nodata: float | None, dtype: str) -> float | None:
    """Return a nodata value that pixels can have; files also declare others, which mark nothing."""
    return nodata if nodata is not None and _holds(dtype, nodata) else None


def _holds(dtype: str, value: float) -> bool:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return not np.isfinite(value) or abs(value) <= np.finfo(kind).max
    whole = kind.kind in "iu" and np.isfinite(value) and value == round(value)
    return bool(whole and np.iinfo(kind).min <= value <= np.iinfo(kind).max)


def _palette(raster: Raster) -> dict[int, tuple[int, int, int, int]] | None:
    return raster.source.colormap(1) if raster.source.colorinterp[0] == ColorInterp.palette else None


def _check_upright(raster: Raster) -> None:
    if raster.orientation != UPRIGHT:
        raise InputError(f"{raster.path}: is shown turned by its metadata; write it upright before it is cut")


def _aligned(stack: ExitStack, path: Path, image: Raster, resample: str | None, what: str) -> Raster:
    """Open a file of one band on the grid of an image, resampled where it has another one."""
    raster = stack.enter_context(opened(path, what, place=True, scene=True, any_format=True))
    if raster.bands - (raster.alpha is not None) != 1:
        raise InputError(f"{path}: {what} has one band, but this has {raster.bands}")
    return _on_grid(stack, raster, image, resample, what)


def _on_grid(stack: ExitStack, raster: Raster, image: Raster, resample: str | None, what: str) -> Raster:
    """Return a file as it is where it has the grid of an image, and otherwise resampled onto it."""
    _check_upright(raster)
    path, is_mask = raster.path, what == "a mask"
    differs = _differing(image, raster)
    if differs is None:
        return raster
    own, wanted = georeference_of(raster), georeference_of(image)
    if not own or not wanted or not own.crs or not wanted.crs:
        raise InputError(
            f"{path}: {differs}; without a coordinate system in both files there is no telling where it lies: bring "
            f"it to the image's size first"
        )
    if resample is None:
        how = "nearest" if is_mask else "bilinear"
        grid = "grid of the first file of the list" if what == "a band" else "image's grid"
        raise InputError(f"{path}: {differs}; --resample {how} brings it onto the {grid}")
    if raster.more:
        raise InputError(f"{path}: {differs}, and has several pages; bring it to the grid of {image.path} first")
    source = raster.source
    # A nodata value of a mask is a label that stays. Without one, alpha tells where the file does not reach.
    declared = {"src_nodata": None, "nodata": None} if is_mask else {}
    alpha = raster.alpha is None and (source.nodata is None or bool(declared))
    warped = WarpedVRT(
        source,
        src_crs=own.crs,
        crs=wanted.crs,
        transform=wanted.transform,
        height=wanted.height,
        width=wanted.width,
        resampling=Resampling[resample],
        add_alpha=alpha,
        **declared,
    )
    stack.enter_context(warped)
    added = warped.count if alpha else None
    return _OnGrid(path, warped, (), raster.orientation, reach=_reach(wanted, own), added=added)


def _reach(scene: Georeference, other: Georeference) -> float:
    """Return the share of a scene that another file covers, by a grid of points."""
    downs, rights = ((np.arange(_POINTS) + 0.5) / _POINTS * side for side in (scene.height, scene.width))
    right, down = np.meshgrid(rights, downs)
    x, y = _mapped(scene.transform, right.ravel(), down.ravel())
    if scene.crs != other.crs:
        try:
            found = reproject(scene.crs, other.crs, x, y)
        except (RasterioError, CPLE_BaseError):  # no such place in the other system
            return 0.0
        x, y = (np.asarray(values, np.float64) for values in found)
    columns, rows = _mapped(~other.transform, x, y)
    return float(((columns >= 0) & (columns <= other.width) & (rows >= 0) & (rows <= other.height)).mean())


def _mapped(transform: Affine, x: Values, y: Values) -> tuple[Values, Values]:
    a, b, c, d, e, f = transform[:6]
    return a * x + b * y + c, d * x + e * y + f


def _differing(image: Raster, other: Raster) -> str | None:
    """Describe how the grid of a file differs from that of the image of its scene; None where it does not."""
    if other.size != image.size:
        sizes = " and ".join(f"{width}x{height}" for height, width in (other.size, image.size))
        return f"its size differs from that of {image.path} ({sizes})"
    own, wanted = georeference_of(other), georeference_of(image)
    differs = difference(wanted, own) if own and wanted else None
    return differs and f"does not lie where {image.path} does: {differs}"
