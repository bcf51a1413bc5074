"""Which images calibrate a model. Every choice is a function of the ids and what the images hold, never of chance."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pspnet_edge.errors import OptionError


def balanced_by_area(shares: Mapping[str, NDArray[np.float64]], count: int) -> list[str]:
    """Choose images so that rare classes take more of the pixels than they do in the whole set.

    Greedy: each image that is taken adds the most to the sum over classes of log(area so far).

    Args:
        shares: image id → ``float [classes]``, each class's share of the image's labelled pixels.
        count: how many.

    Returns:
        ids, sorted.

    Raises:
        OptionError: there are fewer images than ``count``.
    """
    ids = _shuffled(shares, count)
    table = np.array([shares[name] for name in ids])
    # One average image to start with: no class has nothing, and one that no image holds weighs nothing.
    area = np.maximum(table.mean(0), 1e-12)
    left = np.ones(len(ids), bool)
    for _ in range(count):
        best = int(np.argmax(np.where(left, table @ (1 / area), -1.0)))
        left[best] = False
        area += table[best]
    return sorted(np.array(ids)[~left].tolist())


def balanced_by_presence(classes: Mapping[str, Sequence[int]], count: int) -> list[str]:
    """Choose images so that each class is in about as many of them.

    The classes take turns: the one that is in the fewest images so far takes the next image that holds it. An image is
    passed over while it would raise another class above twice the even count, as one that occurs beside every other
    would.

    Args:
        classes: image id → ids of the classes in it.
        count: how many.

    Returns:
        ids, sorted.

    Raises:
        OptionError: there are not that many images with a class in them.
    """
    ids = _shuffled({name: held for name, held in classes.items() if held}, count)
    known = sorted({class_id for name in ids for class_id in classes[name]})
    holds = np.array([[class_id in classes[name] for class_id in known] for name in ids])
    left, images = np.ones(len(ids), bool), np.zeros(len(known), int)
    limit = max(1, 2 * count // len(known))
    for done in range(count):
        fits = left & ~holds[:, images >= limit].any(1)
        if not fits.any():
            raise OptionError(f"only {done} of {count} images can be balanced by class: choose fewer")
        open_classes = np.flatnonzero(holds[fits].any(0))
        rarest = open_classes[np.argmin(images[open_classes])]
        taken = int(np.argmax(fits & holds[:, rarest]))
        left[taken] = False
        images += holds[taken]
    return sorted(np.array(ids)[~left].tolist())


def stratified(strata: Mapping[str, str], count: int) -> list[str]:
    """Choose from each stratum in proportion to its size, evenly spaced over its ids in order.

    Args:
        strata: image id → its stratum, such as a city.
        count: how many in all.

    Returns:
        ids, sorted.

    Raises:
        OptionError: there are fewer images than ``count``.
    """
    _shuffled(strata, count)
    members: dict[str, list[str]] = defaultdict(list)
    for name in sorted(strata):
        members[strata[name]].append(name)
    # Largest remainder: whole parts first, then one more for those that lost most by rounding.
    exact = {stratum: count * len(names) / len(strata) for stratum, names in members.items()}
    quota = {stratum: int(share) for stratum, share in exact.items()}
    by_loss = sorted(exact, key=lambda stratum: (quota[stratum] - exact[stratum], stratum))
    for stratum in by_loss[: count - sum(quota.values())]:
        quota[stratum] += 1
    return sorted(names[i] for stratum, names in members.items() for i in _evenly(len(names), quota[stratum]))


def _shuffled(images: Mapping[str, object], count: int) -> list[str]:
    """The ids in an order that has nothing to do with when they were taken, and is the same everywhere."""
    if count > len(images):
        raise OptionError(f"{count} images cannot be chosen from {len(images)}: choose fewer")
    return sorted(images, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def _evenly(total: int, count: int) -> tuple[int, ...]:
    return tuple(position * total // count for position in range(count))
