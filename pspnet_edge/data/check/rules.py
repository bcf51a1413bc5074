"""What the measurements of pairs mean: one function per kind of fault."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import DataError
from ...labels import IGNORE
from ...records import counted
from ..exif import UPRIGHT
from ..files import FileSet, size_problem
from ..layout import MASK_SUFFIXES, names_of_mask
from ..mask_file import read_raw_mask
from .duplicates import duplicates
from .findings import Finding, Severity, SplitCount
from .pair_facts import PairFacts

SOLID_SHARE = 0.002
"""Of all pixels, the share of solid IGNORE from which it is suspected to be a class."""
_SLIVER_PIXELS, _SLIVER_SHARE = 12, 0.3
# Hand-drawn masks of CamVid: here 1.4 to 6.6, shifted at most 1.16 times and turned at most 0.76 times here; at most 5
# % of slivers. The limits keep a distance from those.
_FIT, _BETTER = 2.0, 1.5
_FITS_NOT = 1.25
_VOTES = 5


def judge_pair(dataset: FileSet, facts: PairFacts) -> Iterator[Finding]:
    """Faults that one pair shows by itself."""
    image, mask = facts.image_path, facts.mask_path

    def defect(kind: str, file: Path, problem: str, weight: float = 0.0) -> Finding:
        return Finding(kind, "defect", facts.split, file, problem, image, mask, weight)

    if facts.image_error:
        yield defect("unreadable", image, facts.image_error)
    if facts.mask_error:
        if mask.exists():
            yield defect("bad-mask", mask, facts.mask_error)
        else:
            problem = f"{image} has no mask: {mask.parent} holds no {names_of_mask(image)}{_instead(image, mask)}"
            yield defect("missing-mask", mask, problem)
    if facts.image_hw and facts.mask_hw and facts.image_hw != facts.mask_hw:
        yield defect("size", mask, size_problem(image, mask, facts.image_hw, facts.mask_hw))
    if facts.blank:
        yield defect("blank", image, f"{image} is blank, one colour all over: restore it or remove the pair")
    if facts.pixels is not None and not facts.pixels[:IGNORE].any():
        problem = f"{mask} is 255 (ignore) all over, so it teaches nothing: label or remove it"
        yield defect("nothing-labelled", mask, problem)
    blurred = facts.slivers >= _SLIVER_PIXELS and facts.sliver_share >= _SLIVER_SHARE
    is_jpeg = mask.suffix.lower() in (".jpg", ".jpeg")
    if is_jpeg and not blurred and not facts.mask_error:
        problem = f"{mask} is a JPEG, which moves the edges of classes by single pixels: export masks as PNG"
        yield Finding("jpeg-mask", "warning", facts.split, mask, problem, image, mask)
    if blurred:
        how = "a JPEG changes values" if is_jpeg else "resizing with interpolation makes them"
        yield defect(
            "slivers", mask,
            f"{mask} has {facts.slivers} pixels of in-between classes in thin lines along edges ({how}): export it "
            f"again as PNG, resized with nearest neighbour if at all",
            facts.slivers,
        )  # fmt: skip
    else:
        yield from _misaligned(facts)


def _instead(image: Path, mask: Path) -> str:
    """A file that is there in place of a missing mask."""
    if not mask.parent.is_dir():
        return ""
    beside = sorted(path.name for path in mask.parent.iterdir() if path.name.startswith(image.stem) and path != image)
    return f" ({beside[0]} is there; masks end in {', '.join(MASK_SUFFIXES)})" if beside else ""


def swapped(split: str, pairs: Sequence[tuple[Path, Path]], classes: int) -> Finding | None:
    """Images that are label maps with masks that are photographs, by some of the pairs."""
    for image, mask in pairs[:3]:
        try:
            few, many = (len(np.unique(_flat(read_raw_mask(path).values))) for path in (image, mask))
        except DataError:
            return None
        if few > classes + 1 or many <= 4 * few:
            return None
    image, mask = pairs[0]
    problem = f"{image} is a label map and {mask} a photograph: the two folders are swapped, so exchange their names"
    return Finding("layout", "defect", split, mask, problem, image, mask)


def _flat(values: NDArray[Any]) -> NDArray[np.int64]:
    """One number per pixel."""
    whole = values.astype(np.int64)
    return whole if whole.ndim == 2 else whole @ np.array([1 << 16, 1 << 8, 1])


def judge_set(
    name: str, root: Path, dataset: FileSet, pairs: Sequence[PairFacts], splits: Mapping[str, SplitCount], size: str
) -> Iterator[Finding]:
    """Faults that only the whole set shows."""
    yield from unlabelled(root, splits)
    yield from never_occurring(name, root, pairs, splits)
    yield from _one_sided(splits, root)
    yield from _copies(pairs)
    yield from _orientations(pairs)
    yield from _mixed_depths(pairs)
    yield from _shifted_alike(pairs)
    yield from _shifted_alone(pairs)
    yield from _foreign(pairs)
    yield from _small(dataset, pairs, size)


def one_class_problem(name: str) -> str:
    """What is wrong with a list of one class, and the fix."""
    return (
        f"{name} is the only class, so every pixel would be {name}: list two, `background` and `{name}`, in the order "
        f"of the ids in the masks (0 and 1)"
    )


def unlabelled(root: Path, splits: Mapping[str, SplitCount], looked_at: str = "") -> Iterator[Finding]:
    """Splits whose masks are 255 alone; those to test on often have no labels."""
    for split in ("train", "val"):
        count = splits.get(split)
        if count is not None and count.pixels[IGNORE] and not count.pixels[:IGNORE].any():
            what = "learn from" if split == "train" else "measure"
            command = f"pspnet-edge data import {shlex.quote(str(root))}"
            yield Finding(
                "nothing-labelled", "defect", split, root,
                f"the masks of {split}{looked_at} are 255, which means ignore, at every pixel, so there is nothing to "
                f"{what}: export the labels again, or convert the set with `{command}`",
            )  # fmt: skip


def never_occurring(
    name: str, root: Path, pairs: Sequence[PairFacts], splits: Mapping[str, SplitCount], looked_at: str = ""
) -> Iterator[Finding]:
    """Classes without a pixel in any split; where 255 covers solid areas, it is probably the object."""
    if not splits or not any(count.pixels[:IGNORE].any() for count in splits.values()):
        return
    classes = next(iter(splits.values())).classes
    if len(classes) == 1:
        listing = next((path for path in (root / "classes.txt", root / "classes.json") if path.exists()), root)
        yield Finding("one-class", "defect", "", listing, one_class_problem(classes[0]))
        return
    total = sum((count.pixels for count in splits.values()), np.zeros(256, np.int64))
    absent = [class_name for index, class_name in enumerate(classes) if not total[index]]
    if not absent:
        return
    share = total[IGNORE] / max(int(total.sum()), 1)
    solid = [facts for facts in pairs if facts.pixels is not None]
    worst = max(solid, key=lambda facts: facts.solid_ignore, default=None)
    listed = ", ".join(absent[:5]) + (", …" if len(absent) > 5 else "")
    what = f"class {listed} never occurs" if len(absent) == 1 else f"classes {listed} never occur"
    own: Severity = "defect" if name == "folder" else "warning"
    if worst is not None and float(np.mean([facts.solid_ignore for facts in solid])) >= SOLID_SHARE:
        place, target = shlex.quote(str(root)), shlex.quote(root.name + "_ids")
        command = f"pspnet-edge data import {place} -o {target} --map 255={absent[0]}"
        yield Finding(
            "ignore-is-class", own, "", worst.mask_path,
            f"{what}{looked_at}, and 255, which means ignore, covers {share:.1%} of the pixels in solid areas (most in "
            f"{worst.mask_path}): if 255 is the object, save it as its class id, or convert the set with `{command}`",
            worst.image_path, worst.mask_path, worst.solid_ignore,
        )  # fmt: skip
        return
    if any(facts.mask_error for facts in pairs):
        return  # in the masks that cannot be read it may occur
    listing = next((path for path in (root / "classes.txt", root / "classes.json") if path.exists()), root)
    it = "it" if len(absent) == 1 else "them"
    fix = f"correct the masks, or remove {it} from the list of classes"
    if name == "voc":
        command = f"pspnet-edge data import {shlex.quote(str(root))} --format voc --classes FILE -o my_data"
        fix = f"if the classes are not VOC's but your own, name them with `{command}`"
    yield Finding(
        "class-never-occurs", own, "", listing,
        f"{what} in any mask of {root}{looked_at}, so the network cannot learn {it}: {fix}",
    )  # fmt: skip


def _misaligned(facts: PairFacts) -> Iterator[Finding]:
    fit, stored = facts.alignment, facts.stored_alignment
    if fit is None:
        return
    image, mask = facts.image_path, facts.mask_path
    if stored is not None and stored.here >= _FIT and stored.here >= _BETTER * fit.here:
        yield Finding(
            "exif-turned", "defect", facts.split, image,
            f"{image} has EXIF orientation {facts.orientation} and {mask} fits it as it is stored, not upright as it "
            f"is read: turn the mask too, or save the image upright without the EXIF tag",
            image, mask, stored.here / max(fit.here, 1e-3),
        )  # fmt: skip
        return
    if fit.turned_fit >= _FIT and fit.turned_fit >= max(1.25 * fit.here, 1.15 * fit.shifted):
        yield Finding(
            "turned", "defect", facts.split, mask,
            f"{mask} fits its image {image.name} only when it is {fit.turned}: export it in the image's orientation",
            image, mask, fit.turned_fit / max(fit.here, 1e-3),
        )  # fmt: skip
    elif fit.shift != (0, 0) and fit.shifted >= 1.5 * _FIT and fit.shifted >= 1.4 * fit.here:
        yield Finding(
            "shifted", "defect", facts.split, mask,
            f"{mask} fits its image {image.name} best when moved by {_move(fit.shift)}: export it again without "
            f"cropping or padding",
            image, mask, fit.shifted / max(fit.here, 1e-3),
        )  # fmt: skip


def _shifted_alike(pairs: Sequence[PairFacts]) -> Iterator[Finding]:
    """All masks off by the same pixels, as converters leave them that count from 1 or crop."""
    told = [facts for facts in pairs if facts.alignment is not None]
    votes = Counter(
        facts.alignment.shift for facts in told
        if facts.alignment is not None and facts.alignment.shifted >= 1.15 * facts.alignment.here
        and facts.alignment.shifted >= _FIT
    )  # fmt: skip
    if not votes:
        return
    shift, count = votes.most_common(1)[0]
    if shift == (0, 0) or count < _VOTES or count < 0.6 * len(told):
        return
    worst = next(facts for facts in told if facts.alignment is not None and facts.alignment.shift == shift)
    yield Finding(
        "all-shifted", "defect", "", worst.mask_path,
        f"{count} of {len(told)} masks, such as {worst.mask_path}, fit their images best when moved by "
        f"{_move(shift)}: export them again, or correct the conversion that made them",
        worst.image_path, worst.mask_path, float(count),
    )  # fmt: skip


def _shifted_alone(pairs: Sequence[PairFacts]) -> Iterator[Finding]:
    """Single masks that are off by little, in a set whose other masks are exact."""
    told = [(facts, facts.alignment) for facts in pairs if facts.alignment is not None]
    exact = sum(fit.shift == (0, 0) for _, fit in told)
    if len(told) < _VOTES or exact < 0.7 * len(told):
        return
    for facts, fit in told:
        small = max(map(abs, fit.shift)) in (1, 2) and 1.2 * fit.here <= fit.shifted < 1.4 * fit.here
        if small and fit.shifted >= 1.5 * _FIT:
            yield Finding(
                "shifted", "defect", facts.split, facts.mask_path,
                f"{facts.mask_path} fits its image {facts.image_path.name} best when moved by {_move(fit.shift)}, and "
                f"the other masks of the set fit where they are: export it again without cropping or padding",
                facts.image_path, facts.mask_path, fit.shifted / max(fit.here, 1e-3),
            )  # fmt: skip


def _foreign(pairs: Sequence[PairFacts]) -> Iterator[Finding]:
    """Masks that fit nowhere in their image, in a set whose other masks fit well."""
    told = [(facts, facts.alignment) for facts in pairs if facts.alignment is not None]
    if len(told) < _VOTES:
        return
    usual = float(np.median([fit.here for _, fit in told]))
    for facts, fit in told:
        fits_here = fit.here_in_colour >= min(_FITS_NOT, 0.45 * usual)
        if not fits_here and max(fit.shifted, fit.turned_fit) < max(_FIT, 0.4 * usual):
            yield Finding(
                "wrong-image", "warning", facts.split, facts.mask_path,
                f"{facts.mask_path} fits its image {facts.image_path.name} nowhere, and the other masks of the set fit "
                f"theirs: check that it is not the mask of another image",
                facts.image_path, facts.mask_path, usual / max(fit.here, 1e-3),
            )  # fmt: skip


def _move(shift: tuple[int, int]) -> str:
    x, y = shift
    parts = [f"{abs(x)} px {'right' if x > 0 else 'left'}"] if x else []
    parts += [f"{abs(y)} px {'down' if y > 0 else 'up'}"] if y else []
    return " and ".join(parts)


def _one_sided(splits: Mapping[str, SplitCount], root: Path) -> Iterator[Finding]:
    if "train" not in splits or "val" not in splits:
        return
    train, val = splits["train"], splits["val"]
    if not train.images or not val.images:
        return
    for index, name in enumerate(train.classes):
        here, there = int(train.pixels[index]), int(val.pixels[index])
        if here and not there:
            holders = counted(int(train.occurs[index]), "image")
            yield Finding(
                "class-not-in-val", "warning", "val", root,
                f"class {name} is in {holders} of train and in none of val in {root}, so "
                f"validation says nothing about it: split again with `pspnet-edge data split {shlex.quote(str(root))} "
                f"--overwrite`",
            )  # fmt: skip
        elif there and not here:
            holders = counted(int(val.occurs[index]), "image")
            yield Finding(
                "class-not-in-train", "warning", "train", root,
                f"class {name} is in {holders} of val and in none of train in {root}, so it "
                f"cannot be learned: split again with `pspnet-edge data split {shlex.quote(str(root))} --overwrite`",
            )  # fmt: skip


def _copies(pairs: Sequence[PairFacts]) -> Iterator[Finding]:
    seen: set[Path] = set()
    for later, first in duplicates(pairs):
        if later.image_path in seen or later.image_path == first.image_path:
            continue
        seen.add(later.image_path)
        yield Finding(
            "duplicate", "defect", later.split, later.image_path,
            f"{later.image_path} of split {later.split} shows the same as {first.image_path} of split {first.split}: "
            f"keep it in one split, or what is measured is too good",
            later.image_path, later.mask_path,
        )  # fmt: skip


def _orientations(pairs: Sequence[PairFacts]) -> Iterator[Finding]:
    turned = [facts for facts in pairs if facts.orientation != UPRIGHT and facts.image_hw == facts.mask_hw]
    if turned:
        first = turned[0]
        count = f"{len(turned)} images have" if len(turned) > 1 else "1 image has"
        yield Finding(
            "exif", "warning", first.split, first.image_path,
            f"{count} an EXIF orientation ({first.image_path} has {first.orientation}) and "
            f"{'are' if len(turned) > 1 else 'is'} read upright: masks must be drawn on the upright picture, so "
            f"compare them, or save such images without the tag",
            first.image_path, first.mask_path,
        )  # fmt: skip


def _mixed_depths(pairs: Sequence[PairFacts]) -> Iterator[Finding]:
    deep = [facts for facts in pairs if facts.image_hw and facts.deep]
    shallow = sum(1 for facts in pairs if facts.image_hw and not facts.deep)
    if deep and shallow:
        first = deep[0]
        for facts in deep[:20] if len(deep) <= shallow else deep[:1]:
            yield Finding(
                "mixed-depth", "warning", facts.split, facts.image_path,
                f"{facts.image_path} has more than 8 bits per channel and {shallow} other images of the set have 8: "
                f"save all of them at one depth",
                first.image_path, first.mask_path,
            )  # fmt: skip


def _small(dataset: FileSet, pairs: Sequence[PairFacts], size: str) -> Iterator[Finding]:
    for index, name in enumerate(dataset.label_set.classes):
        held = [(facts, *facts.small[index]) for facts in pairs if facts.small and index in facts.small]
        small, total = sum(entry[1] for entry in held), sum(entry[2] for entry in held)
        if not total or small <= 0.5 * total:
            continue
        worst = max(held, key=lambda entry: entry[1])[0]
        yield Finding(
            "small-objects", "warning", worst.split, worst.mask_path,
            f"{small / total:.0%} of class {name} is in objects smaller than 8×8 pixels at the engine's size {size}, "
            f"such as in {worst.mask_path}: choose a larger size, or crop the images before",
            worst.image_path, worst.mask_path, small / total,
        )  # fmt: skip
