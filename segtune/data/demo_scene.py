"""Synthetic aerial scenes with ponds, the tiles of the demo data set.

The scenes are made so that the spectrum of one pixel does not tell water from the rest: cast shadows, dark
asphalt, wet ploughed fields, blue metal roofs and turquoise tarpaulins share the colours of the ponds, and
the ponds themselves run from clear dark blue to algae green and muddy brown. Shape, texture and surroundings
decide, which is what a segmentation network can learn and a per-pixel classifier cannot.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from segtune.data.demo_canvas import Mask, Points, Scene, grow, rectangle

OTHER, BUILDING, VEGETATION, WATER = 0, 1, 2, 3
"""Values in gt_classes; the binary gt is 255 where gt_classes is WATER and 0 elsewhere."""

# Colours are display reflectances (red, green, blue, near infrared) in 0..1.
_SOILS = ((0.53, 0.44, 0.33, 0.52), (0.50, 0.47, 0.32, 0.56), (0.46, 0.40, 0.32, 0.48))
_GRASSES = ((0.38, 0.44, 0.26, 0.66), (0.44, 0.46, 0.29, 0.62))
_CROPS = (
    (0.24, 0.40, 0.19, 0.78),
    (0.33, 0.45, 0.22, 0.72),
    (0.20, 0.33, 0.17, 0.70),
    (0.56, 0.52, 0.31, 0.60),
)
_PLOUGHED = ((0.42, 0.33, 0.25, 0.40), (0.47, 0.36, 0.27, 0.45))
_WET_PLOUGHED = ((0.19, 0.18, 0.17, 0.15), (0.24, 0.22, 0.20, 0.18), (0.15, 0.15, 0.16, 0.12))
_PONDS = (
    (0.09, 0.16, 0.24, 0.07),  # clear, deep
    (0.14, 0.22, 0.28, 0.10),  # clear, shallow
    (0.19, 0.31, 0.18, 0.22),  # algae
    (0.38, 0.32, 0.23, 0.22),  # muddy
    (0.27, 0.31, 0.25, 0.17),  # turbid
    (0.10, 0.14, 0.17, 0.07),  # peaty, nearly black
)
_REED = (0.20, 0.32, 0.15, 0.66)
_BANKS = ((0.52, 0.46, 0.36, 0.50), (0.60, 0.54, 0.43, 0.55), (0.45, 0.40, 0.31, 0.44))
_WET_MUD = (0.30, 0.26, 0.21, 0.27)
_ROOFS = (
    (0.55, 0.55, 0.54, 0.50),  # concrete
    (0.70, 0.70, 0.68, 0.64),  # light sheet
    (0.56, 0.29, 0.21, 0.46),  # tiles
    (0.17, 0.30, 0.46, 0.12),  # blue metal
    (0.14, 0.22, 0.32, 0.09),  # dark blue metal
    (0.18, 0.19, 0.21, 0.13),  # bitumen
)
_ASPHALTS = ((0.15, 0.17, 0.20, 0.10), (0.20, 0.22, 0.24, 0.14), (0.11, 0.13, 0.16, 0.075))
_TARPS = ((0.15, 0.46, 0.55, 0.13), (0.12, 0.30, 0.50, 0.08))
_CARS = ((0.75, 0.75, 0.75, 0.7), (0.55, 0.56, 0.58, 0.5), (0.55, 0.16, 0.13, 0.4), (0.85, 0.85, 0.83, 0.75))
_DIRT_ROAD = (0.60, 0.53, 0.43, 0.55)
_TREES = ((0.17, 0.28, 0.13, 0.62), (0.22, 0.33, 0.16, 0.70))


def _paint_ground(scene: Scene) -> None:
    """Paint bare soil and dry grass in patches; class OTHER."""
    soil, grass = scene.pick(_SOILS), scene.pick(_GRASSES)
    share = np.clip(0.5 + 0.45 * scene.noise(45, 18, 7), 0, 1)[..., None]
    texture = 1 + 0.05 * scene.noise(30, 9, 4) + 0.05 * scene.noise(2.5, 1.4)
    scene.bands = ((soil * (1 - share) + grass * share) * texture[..., None]).astype(np.float32)


def _paint_fields(scene: Scene) -> None:
    """Paint the parcels of a rotated, uneven grid, cropped, ploughed or fallow; class VEGETATION."""
    rng, size = scene.rng, scene.size
    angle = rng.uniform(0, np.pi)
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    reach = 0.8 * size
    cuts = []
    for _ in range(2):
        steps = scene.px(1) * rng.uniform(30, 62, 8)
        cuts.append(np.cumsum(steps) - rng.uniform(0, scene.px(40)) - reach)
    centre = np.array([size / 2, size / 2])
    for left, right in zip(cuts[0][:-1], cuts[0][1:], strict=True):
        for low, high in zip(cuts[1][:-1], cuts[1][1:], strict=True):
            if rng.random() < 0.38:
                continue
            bund = scene.px(1.2)
            corners = np.array(
                [
                    [left + bund, low + bund],
                    [right - bund, low + bund],
                    [right - bund, high - bund],
                    [left + bund, high - bund],
                ]
            )
            corners += rng.normal(0, scene.px(1.5), corners.shape)
            mask = scene.polygon(corners @ axes + centre)
            if mask.any():
                _paint_parcel(scene, mask, angle + rng.integers(2) * np.pi / 2)


def _paint_parcel(scene: Scene, mask: Mask, furrow_angle: float) -> None:
    """Paint one field with its furrows."""
    rng = scene.rng
    kind = rng.choice(3, p=[0.45, 0.15, 0.40])
    colours, depth = ((_CROPS, 0.07), (_PLOUGHED, 0.11), (_WET_PLOUGHED, 0.50))[kind]
    rows, columns = np.mgrid[: scene.size, : scene.size]
    distance = columns * np.cos(furrow_angle) + rows * np.sin(furrow_angle)
    period = scene.px(rng.uniform(6.0, 9.0))
    furrows = np.sin(2 * np.pi * distance / period + 0.4 * scene.noise(20))
    texture = 1 + depth * furrows + 0.06 * scene.noise(25, 8) + 0.05 * scene.noise(2.5, 1.4)
    scene.paint(mask, (scene.pick(colours) * texture[..., None]).astype(np.float32), VEGETATION)


def _paint_road(scene: Scene) -> None:
    """Paint a gently curved dirt or asphalt road across the tile; class OTHER."""
    rng, size = scene.rng, scene.size
    angle = rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    steps = np.linspace(-0.9, 0.9, 40)[:, None]
    bend = rng.uniform(-0.15, 0.15) * np.sin(2.2 * steps + rng.uniform(0, 6))
    middle = size / 2 + rng.uniform(-0.35, 0.35) * size * across
    points = middle + size * (steps * along + bend * across)
    half = scene.px(rng.uniform(2.0, 3.5)) * across
    mask = scene.polygon(np.concatenate([points + half, (points - half)[::-1]]))
    paved = rng.random() < 0.6
    colour = scene.pick(_ASPHALTS if paved else (_DIRT_ROAD,))
    texture = (1 + 0.05 * scene.noise(20, 3))[..., None]
    scene.paint(grow(mask, scene.px(1.5)), scene.pick(_SOILS), OTHER, edge=0.9)
    scene.paint(mask, (colour * texture).astype(np.float32), OTHER)
    if paved:
        lane = scene.polygon(np.concatenate([points + half * 0.12, (points - half * 0.12)[::-1]]))
        scene.paint(lane, np.float32(1.9) * colour, edge=0.4)
    scene.taken |= grow(mask, scene.px(3))


def _pond_outline(scene: Scene) -> Points:
    """Draw a smooth irregular outline (n, 2) around the origin with a mean radius of 15 to 31 reference pixels."""
    rng = scene.rng
    theta = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = np.ones_like(theta)
    for k, amplitude in ((2, 0.13), (3, 0.10), (4, 0.05), (5, 0.03)):
        radius += rng.normal(0, amplitude) * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.55, 1.5) * scene.px(rng.uniform(15, 31))
    stretch = rng.uniform(0.8, 1.25)
    outline = np.stack([radius * np.cos(theta) * stretch, radius * np.sin(theta) / stretch], axis=1)
    turn = rng.uniform(0, np.pi)
    rotation: Points = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    return np.asarray(outline @ rotation, np.float64)


def _paint_ponds(scene: Scene) -> None:
    """Paint ponds until a drawn share of the tile is flooded, or none in about one tile of seven; class WATER."""
    rng = scene.rng
    if rng.random() < 0.12:
        return
    wanted = rng.uniform(0.14, 0.42) * scene.size**2
    flooded = 0
    for _ in range(60):
        if flooded >= wanted:
            break
        centre = rng.uniform(0.05, 0.95, 2) * scene.size
        mask = scene.polygon(_pond_outline(scene) + centre)
        # A sliver at the tile's rim would be water that nobody can tell from a ditch.
        if mask.sum() < scene.px(10) ** 2 * np.pi or (scene.taken & grow(mask, scene.px(4))).any():
            continue
        _paint_pond(scene, mask)
        flooded += int(mask.sum())


def _paint_pond(scene: Scene, mask: Mask) -> None:
    """Paint one pond: muddy bank, broken reed belt, depth gradient, ripples and sometimes sun glint."""
    rng = scene.rng
    ring = grow(mask, scene.px(rng.uniform(1.5, 3.0)))
    scene.paint(ring, scene.pick(_BANKS), OTHER, edge=0.8)
    reeds = grow(mask, scene.px(3.5)) & (scene.noise(12, 5) > rng.uniform(-0.6, 0.6))
    reed_texture = (1 + 0.15 * scene.noise(3, 1.5))[..., None]
    scene.paint(reeds, (scene.pick((_REED,)) * reed_texture).astype(np.float32), VEGETATION, edge=0.7)
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    shallow = np.exp(-distance / scene.px(rng.uniform(1, 3)))[..., None]
    water, bed = scene.pick(_PONDS), scene.pick((_WET_MUD,))
    colour = water * (1 - 0.3 * shallow) + bed * 0.3 * shallow
    colour = colour * (1 + 0.06 * scene.noise(40, 18))[..., None]
    if rng.random() < 0.3:
        glint = np.clip(scene.noise(14, 4) - rng.uniform(0.8, 1.5), 0, 1) * rng.uniform(0.15, 0.35)
        colour = colour + glint[..., None]
    scene.paint(mask, colour.astype(np.float32), WATER, edge=0.5)
    scene.taken |= grow(mask, scene.px(4))


def _free_rectangle(scene: Scene, length: float, width: float, angle: float, margin: float) -> Points | None:
    """Return the corners of a rectangle on free ground; None when twelve tries found no place."""
    for _ in range(12):
        corners = rectangle(scene.rng.uniform(0, 1, 2) * scene.size, length, width, angle)
        mask = scene.polygon(corners)
        if mask.any() and not (scene.taken & grow(mask, margin)).any():
            return corners
    return None


def _paint_yard(scene: Scene) -> None:
    """Paint a dark paved yard with marked bays: the spectrum of deep water, straight edges; class OTHER."""
    rng = scene.rng
    length, width, angle = scene.px(rng.uniform(28, 50)), scene.px(rng.uniform(18, 32)), rng.uniform(0, np.pi)
    corners = _free_rectangle(scene, length, width, angle, scene.px(2))
    if corners is None:
        return
    mask = scene.polygon(corners)
    colour = scene.pick(_ASPHALTS)
    texture = (1 + 0.08 * scene.noise(20, 3))[..., None]
    scene.paint(grow(mask, scene.px(1)), scene.pick(((0.62, 0.60, 0.56, 0.55),)), OTHER)
    scene.paint(mask, (colour * texture).astype(np.float32), OTHER)
    along = (corners[1] - corners[2]) / width, (corners[0] - corners[3]) / length
    for place in np.arange(-0.42, 0.43, scene.px(5) / length):
        for side in (-0.28, 0.28):
            bay = corners.mean(axis=0) + place * length * along[1] + side * width * along[0]
            line = rectangle(bay, scene.px(0.9), 0.34 * width, angle)
            scene.paint(scene.polygon(line) & mask, np.full(4, 0.5, np.float32), edge=0.45)
            if rng.random() < 0.5:
                car = rectangle(bay + scene.px(2.5) * along[1], scene.px(2.4), scene.px(4.5), angle)
                scene.paint(scene.polygon(car) & mask, scene.pick(_CARS), edge=0.45)
    scene.taken |= mask


def _paint_buildings(scene: Scene) -> None:
    """Paint a loose settlement of pitched roofs along one street grid, with cast shadows; class BUILDING."""
    rng = scene.rng
    angle = rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(2, 9))):
        length, width = scene.px(rng.uniform(11, 26)), scene.px(rng.uniform(8, 15))
        turned = angle + rng.integers(2) * np.pi / 2 + rng.normal(0, 0.06)
        corners = _free_rectangle(scene, length, width, turned, scene.px(3))
        if corners is not None:
            _paint_building(scene, corners)


def _paint_building(scene: Scene, corners: Points) -> None:
    """Paint one roof, its sunlit and shaded halves on both sides of the ridge, and its shadow on the ground."""
    rng = scene.rng
    mask = scene.polygon(corners)
    fall = np.array(scene.sun) * scene.px(rng.uniform(4, 10))
    hull = cv2.convexHull(np.concatenate([corners, corners + fall]).astype(np.float32))[:, 0]
    # Shadows on a pond would need the water's own reflection; the roof is simply lower there.
    shadow = scene.polygon(hull) & ~mask & (scene.labels != WATER)
    scene.shade(shadow, rng.uniform(0.22, 0.36))
    roof = scene.pick(_ROOFS)
    ends = (corners[0] + corners[1]) / 2, (corners[2] + corners[3]) / 2
    shaded = scene.polygon(np.array([ends[0], corners[1], corners[2], ends[1]]))
    texture = (1 + 0.04 * scene.noise(8, 2))[..., None]
    scene.paint(mask, (roof * texture).astype(np.float32), BUILDING, edge=0.45)
    scene.paint(shaded & mask, (roof * texture * rng.uniform(0.68, 0.85)).astype(np.float32), edge=0.45)
    ridge = rectangle(
        (ends[0] + ends[1]) / 2,
        float(np.linalg.norm(ends[0] - ends[1])),
        scene.px(1.1),
        float(np.arctan2(*(ends[1] - ends[0])[::-1])),
    )
    scene.paint(scene.polygon(ridge) & mask, np.clip(roof * 1.35, 0, 1).astype(np.float32), edge=0.4)
    scene.taken |= mask | shadow


def _paint_tarp(scene: Scene) -> None:
    """Paint a taut turquoise or blue tarpaulin over stacked goods; class OTHER."""
    rng = scene.rng
    length, width = scene.px(rng.uniform(8, 16)), scene.px(rng.uniform(6, 11))
    corners = _free_rectangle(scene, length, width, rng.uniform(0, np.pi), scene.px(2))
    if corners is None:
        return
    mask = scene.polygon(corners)
    folds = (1 + 0.10 * scene.noise(5, 3))[..., None]
    scene.paint(mask, (scene.pick(_TARPS) * folds).astype(np.float32), OTHER)
    scene.taken |= mask


def _paint_trees(scene: Scene) -> None:
    """Paint single trees and small groups with textured crowns and cast shadows; class VEGETATION."""
    rng = scene.rng
    for _ in range(int(rng.integers(1, 6))):
        group = rng.uniform(0, 1, 2) * scene.size
        for _ in range(int(rng.integers(1, 6))):
            centre = group + rng.normal(0, scene.px(6), 2)
            radius = scene.px(rng.uniform(2.0, 4.5))
            theta = np.linspace(0, 2 * np.pi, 14, endpoint=False)
            rim = radius * (1 + rng.normal(0, 0.12, theta.size))
            crown = centre + np.stack([rim * np.cos(theta), rim * np.sin(theta)], axis=1)
            mask = scene.polygon(crown)
            if not mask.any() or (scene.taken & mask).any():
                continue
            shadow = scene.polygon(crown + np.array(scene.sun) * radius * 1.1) & ~mask
            scene.shade(shadow & (scene.labels != WATER), rng.uniform(0.35, 0.5))
            lit = (1 + 0.16 * scene.noise(3, 1.5))[..., None]
            scene.paint(mask, (scene.pick(_TREES) * lit).astype(np.float32), VEGETATION)


def _expose(scene: Scene) -> NDArray[np.uint8]:
    """Return the scene as a camera records it, (size, size, 4) uint8: light, haze, optics and sensor noise."""
    rng = scene.rng
    light = rng.uniform(0.85, 1.20) * rng.normal(1, 0.02, 4) * np.ones((scene.size, scene.size, 1))
    if rng.random() < 0.2:
        cloud = 1 / (1 + np.exp(-6 * (scene.noise(70) - rng.uniform(0.2, 0.9))))
        light *= (1 - rng.uniform(0.2, 0.4) * cloud)[..., None]
    haze = rng.uniform(0.0, 0.12) * np.array([0.85, 0.95, 1.1, 0.55])
    seen = (scene.bands * light * (1 - haze) + haze).astype(np.float32)
    blurred = cv2.GaussianBlur(seen, (0, 0), max(0.3, scene.px(rng.uniform(0.4, 0.65))))
    noisy = blurred + rng.normal(0, 1, seen.shape) * rng.uniform(0.006, 0.015)
    return np.asarray(np.clip(np.round(noisy * 255), 0, 255), np.uint8)


def draw_tile(size: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene: bands (size, size, 4) uint8 red, green, blue, near infrared; classes (size, size) uint8."""
    scene = Scene(size, rng)
    _paint_ground(scene)
    _paint_fields(scene)
    for _ in range(int(rng.choice(3, p=[0.35, 0.5, 0.15]))):
        _paint_road(scene)
    if rng.random() < 0.35:
        _paint_yard(scene)
    _paint_ponds(scene)
    for _ in range(int(rng.choice(3, p=[0.25, 0.5, 0.25]))):
        _paint_yard(scene)
    _paint_buildings(scene)
    for _ in range(int(rng.integers(0, 3))):
        _paint_tarp(scene)
    _paint_trees(scene)
    return _expose(scene), scene.labels
