"""``pack`` and ``deploy`` as functions of the public API."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..data.progress import Progress, silent
from ..engine.model import prepare_model
from ..inputs import as_path, as_path_or_none, as_several
from .install import Demands, Deployed, deploy_pack
from .pack import DEFAULT_GOLDEN, Contents, Packed, Pictures, make_pack
from .service import SystemdService
from .store import Store

AnyPath = str | os.PathLike[str]


def pack(
    model: AnyPath | None = None,
    output: AnyPath | None = None,
    *,
    name: str | None = None,
    calibration: AnyPath | None = None,
    precisions: Sequence[str] = ("auto",),
    runtime: str = "auto",
    dataset: str | None = None,
    root: AnyPath | None = None,
    split: str | None = None,
    images: AnyPath | None = None,
    golden: int = DEFAULT_GOLDEN,
    miou: float | None = None,
    licence: AnyPath | None = None,
    release: int = 0,
    sign: AnyPath | None = None,
    progress: Progress = silent,
) -> Packed:
    """Put a model and all that a board needs into one file.

    >>> import pspnet_edge
    >>> packed = pspnet_edge.pack(output="road.pspnet", golden=2)
    >>> packed.agreement_with_fp32["int8"] > 0.98
    True

    Args:
        model: a bundled name, an ``.onnx``, ``.pt`` or ``.pspnet`` file; None is the default bundled model.
        output: the pack; None is the model's name with ``.pspnet``.
        name: of the model on the board; None is the model's.
        calibration: the table for INT8; None takes the one beside the model.
        precisions: to build on a board, the preferred first; ``auto`` is INT8 with a table, then FP16.
        runtime: computes the golden masks here.
        dataset: labelled set that golden frames are taken from and mIoU is measured on; None is what ``root`` holds.
        root: its folder.
        split: of the data set; None is as for ``evaluate``.
        images: a folder of images for golden frames, without labels.
        golden: how many golden frames.
        miou: measured elsewhere, 0 to 1.
        licence: a text file; None takes the model card beside the model.
        release: higher in each later pack for the same boards, which refuse a lower one; 0 where it has none.
        sign: an Ed25519 private key of OpenSSH.
        progress: shows how far it is.

    Raises:
        ModelError, CalibrationError, BuildError, DataError, OptionError, PackError, OutputError: as the names say.
    """
    from ..data.held_out import split_or_unseen
    from ..data.images import ImageFiles
    from ..data.recognize import recognized
    from ..graph.onnx_file import read_model

    source = prepare_model(None if model is None else str(as_path(model, "model")))
    pictures = None
    if dataset is None and root is not None:
        dataset = recognized(as_path(root, "root"))
    if dataset is not None:
        network, place = read_model(source.path), as_path_or_none(root, "root")
        measured_on, part = split_or_unseen(dataset, place, split, network.facts, network.pixels)
        pictures = Pictures(measured_on, dataset, part)
    elif images is not None:
        folder = as_path(images, "images")
        pictures = Pictures(ImageFiles(folder), f"images in {folder.name}")
    contents = Contents(
        name=name,
        calibration=as_path_or_none(calibration, "calibration"),
        precisions=as_several(precisions, "precisions"),
        licence=as_path_or_none(licence, "licence"),
        release=release,
        pictures=pictures,
        golden=golden,
        miou=miou,
    )
    path = as_path_or_none(output, "output") or Path(f"{name or source.name}.pspnet")
    return make_pack(source, path, contents, runtime=runtime, key=as_path_or_none(sign, "sign"), progress=progress)


def deploy(
    pack: AnyPath,
    *,
    home: AnyPath | None = None,
    precision: str = "auto",
    runtime: str = "auto",
    key: AnyPath | None = None,
    min_fps: float = 0.0,
    keep: int = 3,
    allow_new_classes: bool = False,
    allow_older: bool = False,
    service: str | None = None,
    watch_s: float = 60.0,
    progress: Progress = silent,
) -> Deployed:
    """Build a pack for this machine, check it on its golden frames, and make it the active version.

    >>> import pspnet_edge
    >>> packed = pspnet_edge.pack(output="road.pspnet", golden=2)
    >>> deployed = pspnet_edge.deploy("road.pspnet", home="board")
    >>> deployed.state, deployed.agreement > 0.98
    ('active', True)

    Args:
        pack: the file.
        home: where versions are; None is ``PSPNET_EDGE_HOME`` or the user's data folder.
        precision: ``auto`` takes the pack's first.
        runtime: as in ``open_engine``.
        key: a file of Ed25519 public keys; packs that none of them signed are refused.
        min_fps: refuse a version that is slower.
        keep: how many versions stay.
        allow_new_classes: whether the classes may be others than the active version's.
        allow_older: whether the pack's release may be lower than the active version's.
        service: a systemd unit that is restarted and watched; None where none runs.
        watch_s: how long it is watched.
        progress: shows how far the build is.

    Raises:
        PackError: the pack cannot be trusted or used.
        DeployError: machine, golden frames, speed or service refuse it; the version before is active.
        BuildError, EngineError, OptionError, OutputError: as the names say.
    """
    demands = Demands(
        precision=precision,
        runtime=runtime,
        public_key=as_path_or_none(key, "key"),
        min_fps=min_fps,
        keep=keep,
        watch_s=watch_s,
        allow_new_classes=allow_new_classes,
        allow_older=allow_older,
    )
    unit = None if service is None else SystemdService(service)
    return deploy_pack(
        as_path(pack, "pack"), Store(as_path_or_none(home, "home")), demands, service=unit, progress=progress
    )
