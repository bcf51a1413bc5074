"""Formats that store masks as pictures: CVAT, CamVid, VOC, Roboflow, Cityscapes, ADE20K, colour masks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import DataError
from .. import camvid, cityscapes, voc
from ..class_list import ClassList, is_ignore, published_list, read_class_list
from ..files import FileSet, files_below, is_litter
from ..layout import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    Layout,
    composed,
    is_by_product,
    is_drawn_mask,
    layout_of,
    masks_in_folders,
    masks_side_by_side,
    variant_of,
)
from ..mask_file import Colour, ids_by_colour, read_raw_mask
from ..reading import is_whole_number, read_text
from .colour_list import COLOUR_LISTS, read_any_list, read_colour_list
from .source import (
    BACKGROUND,
    NOT_THERE,
    Ids,
    Item,
    ReadOptions,
    Source,
    images_of_masks,
    is_background,
    split_of,
    split_of_path,
)

_LOOKED_AT = 64
_TRAIN_IDS = 19
"""How many classes Cityscapes' train ids have at most; its label ids are 34."""
_NEAR = 100
"""Grey levels by which JPEG moves black and white along their edges."""
_BY_COLOUR = ("cvat", "camvid", "colours")
"""Formats whose masks hold colours, whatever the file is stored as."""


def read_cvat(root: Path, options: ReadOptions) -> Source:
    """CVAT's "Segmentation mask 1.1": colours of ``labelmap.txt`` in ``SegmentationClass``."""
    entries = _colours(root, options)
    names = {name for name, _ in entries}
    if (0, 0, 0) not in [colour for _, colour in entries] and not any(is_background(name) for name in names):
        # Black is what no shape covers, whether or not the list says so.
        entries = [(BACKGROUND, (0, 0, 0)), *entries]
    source = _source("cvat", entries)
    masks = [path for path in files_below(root / "SegmentationClass") if path.suffix.lower() == ".png"]
    return paired(source, root, masks, options, _listed_splits(root))


def read_voc(root: Path, options: ReadOptions) -> Source:
    """VOC's tree with its own classes, as labelme2voc and others write it: palette indices."""
    if (root / "labelmap.txt").is_file():
        return read_cvat(root, options)
    below = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
    root = next((folder for folder in below if (folder / "JPEGImages").is_dir()), root)
    listings = ("class_names.txt", "labels.txt", "classes.txt")
    if not options.classes and not any((root / name).is_file() for name in listings) and _listed_splits(root):
        return _published("voc", voc.voc, voc.SPLITS, root, options)
    source = _of_classes("voc", *_classes(root, options, listings))
    source.names = {number: BACKGROUND if is_background(name) else name for number, name in source.names.items()}
    folders = [root / name for name in ("SegmentationClassPNG", "SegmentationClass")]
    masks = [
        path for folder in folders if folder.is_dir() for path in files_below(folder) if path.suffix.lower() == ".png"
    ]
    if not masks:
        raise DataError(f"{root} holds no PNG masks in SegmentationClass or SegmentationClassPNG", "export them as PNG")
    return paired(source, root, masks, options, _listed_splits(root))


def read_camvid(root: Path, options: ReadOptions) -> Source:
    """CamVid's colour masks: the original 701 images, copies of them with ``class_dict.csv``, and CVAT's export."""
    if (root / "trainannot").is_dir() and (root / "train.txt").is_file() and not (root / "label_colors.txt").is_file():
        return _published("camvid", camvid.camvid, camvid.SPLITS, root, options)
    source = _source("camvid", _colours(root, options))
    folders = [entry for entry in sorted(root.iterdir()) if entry.is_dir() and not is_litter(entry.name)]
    masks = [
        path
        for folder in folders
        if any(word in folder.name.lower() for word in ("annot", "label", "mask"))
        for path in files_below(folder)
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    return paired(source, root, masks, options)


def read_colours(root: Path, options: ReadOptions) -> Source:
    """Images and colour masks in separate folders, with a list of colours."""
    source = _source("colours", _colours(root, options))
    layout = layout_of(root)
    return paired(source, root, [path for paths in layout.masks.values() for path in paths], options)


def read_roboflow(root: Path, options: ReadOptions) -> Source:
    """Roboflow's semantic masks: ``_classes.csv``, images and ``*_mask.png`` in one folder for each split."""
    listings = sorted(path for path in files_below(root) if path.name == "_classes.csv")
    names: dict[int, str] = {}
    for listing in listings:
        own: dict[int, str] = {}
        for line in read_text(listing).splitlines()[1:]:
            number, _, name = line.partition(",")
            if name.strip():
                if not is_whole_number(number.strip()):
                    raise DataError(f"the line {line!r} of {listing} is not `pixel value, class`", "export it again")
                own[int(number)] = name.strip()
        # What no polygon covers has id 0, in older exports under this name.
        if own.get(0, "").lower() in ("unlabeled", "unlabelled"):
            own[0] = BACKGROUND
        if names and own != names:
            raise DataError(
                f"{listing} and {listings[0]} give one id to different classes", "import each split by itself"
            )
        names = own
    masks = [
        path for path in files_below(root) if path.stem.endswith("_mask") and path.suffix.lower() in IMAGE_SUFFIXES
    ]
    return paired(Source("roboflow", names), root, masks, options)


def read_pairs(root: Path, options: ReadOptions) -> Source:
    """Images and masks side by side: ``a.jpg`` with ``a_mask.png``, ``a_sat.jpg`` with ``gt_a.png``, JPEG with PNG.

    Or in folders whose names say it, ``image_2`` and ``semantic``, in any depth.
    """
    if options.classes is None and any((root / name).is_file() for name in COLOUR_LISTS):
        source = _source("pairs", _colours(root, options))
    else:
        source = _of_classes("pairs", *_classes(root, options, ("classes.txt", "labels.txt", "class_names.txt")))
    files = [path for path in files_below(root) if path.suffix.lower() in MASK_SUFFIXES]
    masks = masks_side_by_side(files) or masks_in_folders(files, root)
    _ensure_first_id(source, masks, options)
    variants: dict[str, list[Path]] = {}
    for path in masks:
        variants.setdefault(variant_of(path, root), []).append(path)
    if len(variants) > 1:
        masks = variants.pop(_variant(root, sorted(variants), source, options))
        return paired(source, root, masks, options, others=list(chain.from_iterable(variants.values())))
    return paired(source, root, masks, options)


def _variant(root: Path, variants: Sequence[str], source: Source, options: ReadOptions) -> str:
    """Which of several label sets the classes are of.

    Raises:
        DataError: it cannot be told.
    """
    listing = options.listing or source.listing
    for variant in variants:
        if listing and f"_{variant}." in listing.name:
            return variant
    if variants == ["labelids", "labeltrainids"]:
        return "labeltrainids" if len(source.names) <= _TRAIN_IDS else "labelids"
    raise DataError(
        f"{root} holds several masks of each image ({', '.join(filter(None, variants))})",
        "give --classes FILE with the list of one of them, such as config_v2.0.json",
    )


def read_folder(root: Path, options: ReadOptions) -> Source:
    """Our own layout, with ids that are to be changed."""
    listings = ("classes.txt", "classes.json", "labels.txt", "class_names.txt")
    classes, listing = options.classes or ClassList((), None), None
    if options.classes is None:
        listing = _listing(root, listings)
        classes = read_class_list(listing, any_numbers=True) if listing else classes
    names = classes.names
    source = _of_classes("folder", classes, listing)
    source.ignored = {number for number, name in source.names.items() if is_ignore(name)}
    layout = layout_of(root)
    if layout.image_folders and not layout.images:
        places = " and ".join(map(str, layout.image_folders.values()))
        raise DataError(f"{places} holds no images", f"put files there that end in {', '.join(IMAGE_SUFFIXES)}")
    if options.ignore_id == 0 and not source.colours and _highest_id(layout) == len(names):
        # The list names the ids from 1 on.
        source.names = dict(enumerate(names, 1))
    _ensure_first_id(source, [path for paths in layout.masks.values() for path in paths], options)
    splits = _folder_splits(root, layout)
    by_mask = {layout.mask_of(key): key for key in layout.images}
    for mask, key in sorted(by_mask.items(), key=lambda entry: entry[1]):
        image = layout.images[key][0]
        if not mask.is_file():
            source.drop(image, "it has no mask")
            continue
        for other in layout.images[key][1:]:
            source.drop(other, f"{image} has the same name and its mask")
        split = splits.get(image) or split_of_path(image, root)
        source.items.append(Item(key, image, image.suffix, _drawn(mask, source), split))
    for mask in layout.masks_without_image():
        source.drop(mask, "it has no image")
    return source


def read_cityscapes(root: Path, options: ReadOptions) -> Source:
    """Cityscapes' layout: its 19 classes, or one's own with ``--classes`` in the order of the label ids."""
    listings = ("classes.txt", "classes.json")
    listed = any((root / name).is_file() for name in listings) and cityscapes.level_ids(root)
    if options.classes is None and not listed:
        return _published("cityscapes", cityscapes.cityscapes, cityscapes.SPLITS, root, options)
    return _paired_cityscapes(_of_classes("cityscapes", *_classes(root, options, listings)), root, options)


def _published(
    name: str, open_split: Callable[[Path, str], FileSet], splits: Sequence[str], root: Path, options: ReadOptions
) -> Source:
    """One of the data sets that are read as they are, to be renamed, merged or cut down."""
    source: Source | None = None
    reasons: list[str] = []
    for split in splits:
        try:
            opened = open_split(root, split)
        except DataError as error:
            reasons.append(str(error))
            continue
        labels = opened.label_set
        source = source or Source(
            name, dict(enumerate(labels.classes)), dict(enumerate(labels.palette)), roots=(root, options.images)
        )
        for index, (image, mask) in enumerate(opened.pairs):
            if mask.is_file():
                source.add(image, partial(opened.mask, index), split)
    if source is None:
        raise DataError(reasons[0])
    return source


def read_cvat_cityscapes(root: Path, options: ReadOptions) -> Source:
    """CVAT's export in Cityscapes' layout: ids in the order of ``label_colors.txt``."""
    source = _source("cvat-cityscapes", read_colour_list(root / "label_colors.txt"))
    return _paired_cityscapes(source, root, options)


def read_ade20k(root: Path, options: ReadOptions) -> Source:
    """ADE20K of the scene parsing benchmark: ids 1 to 150, 0 is ignored."""
    root = root / "ADEChallengeData2016" if (root / "ADEChallengeData2016").is_dir() else root
    listing = root / "objectInfo150.txt"
    if options.classes:
        names = dict(enumerate(options.classes.names, 1))
    elif listing.is_file():
        rows = [line.split("\t") for line in read_text(listing).splitlines()[1:] if line.strip()]
        names = {int(row[0]): row[-1].split(",")[0].strip() for row in rows if is_whole_number(row[0].strip())}
    else:
        raise DataError(f"{root} has no objectInfo150.txt", "restore it, or give --classes FILE with the 150 names")
    # Two of the 150 share their first synonym.
    seen: set[str] = set()
    for number, name in names.items():
        names[number] = name if name not in seen else f"{name} {number}"
        seen.add(name)
    source = Source("ade20k", names, ignored={0})
    masks = files_below(root / "annotations")
    return paired(source, root, [path for path in masks if path.suffix.lower() == ".png"], options)


def _source(format_name: str, entries: Sequence[tuple[str, Colour]]) -> Source:
    names = {index: name for index, (name, _) in enumerate(entries)}
    return Source(format_name, names, {index: colour for index, (_, colour) in enumerate(entries)})


def _of_classes(format_name: str, classes: ClassList, listing: Path | None) -> Source:
    numbers = classes.numbers or range(len(classes.names))
    colours = dict(zip(numbers, classes.colours)) if classes.colours else {}
    return Source(format_name, dict(zip(numbers, classes.names)), colours, listing=listing)


def paired(
    source: Source,
    root: Path,
    masks: Sequence[Path],
    options: ReadOptions,
    splits: dict[str, str] | None = None,
    *,
    others: Sequence[Path] = (),
) -> Source:
    """Add an item for every mask whose image is found; ``others`` are masks too."""
    are_masks = {*masks, *others}
    images = source.index_images(root, options, lambda path: path in are_masks or _is_no_image(path, root))
    found = images_of_masks(masks, images)
    if masks and not any(found.values()):
        if images.paths:
            raise DataError(
                f"{root} holds {len(masks)} masks and {len(images.paths)} images, and none of one name, such as "
                f"{masks[0].name} and {images.paths[0].name}",
                "give each mask its image's name, or the folder of its images with --images DIR",
            )
        raise DataError(
            f"{root} holds {len(masks)} masks and none of their images",
            "export the images too, or give their folder with --images DIR",
        )
    used: set[Path] = set()
    splits = _listed_splits(root) if splits is None else splits
    for mask in masks:
        image = found[mask]
        if image is None:
            source.drop(mask, NOT_THERE)
            continue
        if image in used:
            source.drop(mask, f"{image} has another mask already")
            continue
        used.add(image)
        split = _listed_split(mask, splits) or _listed_split(image, splits)
        source.add(image, _drawn(mask, source), split or split_of_path(mask, root))
    return source


def _is_no_image(path: Path, root: Path) -> bool:
    """Whether a picture beside the masks is another mask: of instances, or drawn for people."""
    drawn = path.parent.name.startswith(("SegmentationClass", "SegmentationObject", "Visualization"))
    return drawn or (root in path.parents and (is_by_product(path, root) or is_drawn_mask(path, root)))


def _paired_cityscapes(source: Source, root: Path, options: ReadOptions) -> Source:
    folder = root / "gtFine"
    by_frame: dict[Path, Path] = {}
    for ending in (cityscapes.LEVEL_IDS_END, "_gtFine_labelTrainIds.png", "_gtFine_labelIds.png", "_gtFine_color.png"):
        for path in files_below(folder):
            if path.name.endswith(ending) and (ending != "_gtFine_color.png" or source.colours):
                by_frame[path.relative_to(folder).with_name(path.name.removesuffix(ending))] = path
    # In IDD frames of different drives have the same names.
    alike = Counter(frame.name for frame in by_frame)
    images = source.index_images(root, options, lambda path: folder in path.parents)
    for frame, mask in sorted(by_frame.items()):
        image = images.find(f"{frame.name}_leftImg8bit.png", mask.parent) or images.find(
            f"{frame.name}.png", mask.parent
        )
        if image is None:
            source.drop(mask, "it has no image")
            continue
        split = split_of_path(mask, folder)
        name = "/".join(part for part in (split, frame.name) if part)
        name = name if alike[frame.name] == 1 else frame.as_posix()
        source.items.append(Item(name, image, image.suffix, _drawn(mask, source), split))
    return source


def _highest_id(layout: Layout) -> int:
    """The highest id below 255 in some of the masks; -1 where none can be read."""
    paths = [path for paths in layout.masks.values() for path in paths]
    highest = -1
    for path in paths[:: max(1, len(paths) // _LOOKED_AT)]:
        try:
            values = read_raw_mask(path).values
        except DataError:
            continue
        highest = max(highest, int(values[values < 255].max(initial=0)))
    return highest


def _ensure_first_id(source: Source, masks: Sequence[Path], options: ReadOptions) -> None:
    """Raise where masks may count the classes of a list from its second line on, as COCO-Stuff's do.

    Its ``labels.txt`` begins with ``0: unlabeled``, and in its masks 0 is a person and 255 is unlabelled.
    """
    first, gaps = source.names.get(0, ""), sorted(source.names) != list(range(len(source.names)))
    if gaps or options.ignore_id is not None or first.lower() not in ("unlabeled", "unlabelled", "void"):
        return
    seen: set[int] = set()
    for path in masks[:: max(1, len(masks) // _LOOKED_AT)]:
        try:
            seen.update(np.unique(read_raw_mask(path).values).tolist())
        except DataError:
            continue
    if {0, 255} <= seen and 255 not in source.names and max(source.names) not in seen:
        raise DataError(
            f"the list of classes calls id 0 {first}, and the masks hold 255 as well as 0: they may count from the "
            "class after it, as COCO-Stuff's do",
            "give --classes FILE with the names from there on and without numbers, or --ignore-id 0 if 0 has no label",
        )


def _drawn(path: Path, source: Source) -> Callable[[], Ids]:
    """A mask file as source ids: by colour where it is coloured and the classes have colours, else its values."""

    def draw() -> Ids:
        raw = read_raw_mask(path)
        if not source.colours:
            if raw.is_colour:
                raise DataError(
                    f"{path} is a colour image and the classes have no colours",
                    "give --classes FILE with `name, r, g, b` per line",
                )
            return _black_and_white(path, raw.values)
        order = list(source.colours)
        palette = [source.colours[number] for number in order]
        rgb = raw.as_colours()
        if raw.is_colour or (raw.palette is not None and rgb is not None):
            assert rgb is not None
            try:
                places = ids_by_colour(path, rgb, palette)
            except DataError:
                if raw.is_colour or source.format == "cvat":
                    raise
                return raw.values  # a palette of another meaning: the indices are ids
            return np.asarray(np.array([*order, *[255] * (256 - len(order))], np.uint16)[places])
        too_high = not (raw.values[raw.values < 255] <= max(order)).all()
        if rgb is not None and (raw.greys_are_colours(palette, source.format in _BY_COLOUR) or too_high):
            places = ids_by_colour(path, rgb, palette)
            return np.asarray(np.array([*order, *[255] * (256 - len(order))], np.uint16)[places])
        return raw.values

    return draw


def _black_and_white(path: Path, values: Ids) -> Ids:
    """The values of a mask; of a JPEG in black and white 0 and 255, as they were before it was compressed."""
    if path.suffix.lower() not in (".jpg", ".jpeg") or not values.any():
        return values
    if not ((values <= _NEAR) | (values >= 255 - _NEAR)).all() or values.max() <= _NEAR:
        raise DataError(f"{path} is a JPEG, which changes ids", "export the masks again as PNG")
    return np.asarray(np.where(values > _NEAR, 255, 0), np.uint8)


def _colours(root: Path, options: ReadOptions) -> list[tuple[str, Colour]]:
    if options.classes and options.classes.colours:
        return list(zip(options.classes.names, options.classes.colours))
    for name in ("labelmap.txt", *COLOUR_LISTS):
        if (root / name).is_file():
            return read_colour_list(root / name)
    raise DataError(f"{root} has no list of colours", "give --classes FILE with `name, r, g, b` per line")


def _classes(root: Path, options: ReadOptions, listings: Sequence[str]) -> tuple[ClassList, Path | None]:
    """The classes of ``--classes``, or of a list beside the data and the list."""
    if options.classes:
        return options.classes, None
    listing = _listing(root, listings)
    if listing is not None:
        classes = read_any_list(listing)
        return ClassList(classes.names[1:], None) if classes.names[0] == "__ignore__" else classes, listing
    raise DataError(f"{root} does not name its classes", "give --classes FILE, one class per line in id order")


def _listing(root: Path, names: Sequence[str]) -> Path | None:
    """The list of classes beside the data: one of these names, or one as public sets have it."""
    return next((path for name in names if (path := root / name).is_file()), None) or published_list(root)


def _listed_splits(root: Path) -> dict[str, str]:
    """Entry → split, from ``ImageSets/Segmentation`` or lists in the root: an image's path without suffix."""
    from ..folder import list_of

    splits: dict[str, str] = {}
    folder = root / "ImageSets" / "Segmentation"
    listings = {
        listing: split_of(listing.stem) for listing in (sorted(folder.glob("*.txt")) if folder.is_dir() else [])
    }
    if not any(listings.values()):
        listings = {listing: split for split in ("train", "val", "test") if (listing := list_of(root, split))}
    for listing, split in listings.items():
        if split is not None:
            for line in read_text(listing).splitlines():
                # Of two columns the first is the image.
                first = re.split(r"[\t,;|]|(?<=\.[A-Za-z]{3}) |(?<=\.[A-Za-z]{4}) ", line.strip().replace("\\", "/"))[0]
                entry = PurePosixPath(first.strip().lstrip("/"))
                if entry.suffix.lower() in IMAGE_SUFFIXES:
                    entry = entry.with_suffix("")
                if entry.name:
                    splits[composed(entry.as_posix())] = split
    return splits


def _listed_split(mask: Path, splits: dict[str, str]) -> str | None:
    """The split of a mask that lists name by its path, or by its name alone."""
    parts = mask.with_suffix("").parts
    entries = (composed("/".join(parts[first:])) for first in range(max(0, len(parts) - 5), len(parts)))
    return next((splits[entry] for entry in entries if entry in splits), None)


def _folder_splits(root: Path, layout: Layout) -> dict[Path, str]:
    from ..folder import list_of
    from ..split_list import listed_pairs

    splits: dict[Path, str] = {}
    for split in ("test", "val", "train"):
        listing = list_of(root, split)
        if listing is not None:
            splits |= {image: split for image, _ in listed_pairs(listing, layout)}
    return splits
