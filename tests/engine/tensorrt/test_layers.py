"""The layer dump's names of types, in the forms that NVIDIA's own dumps have.

The format descriptions are those of the engine dumps and of the dictionary in NVIDIA's engine explorer (TensorRT's
repository, tools/experimental/trt-engine-explorer: tests/inputs/*.graph.json and trex/activations.py).
"""

from __future__ import annotations

import pytest

from pspnet_edge.engine.tensorrt.layers import convolution_precisions

FORMATS = {
    "Row major linear FP32": "fp32",
    "Row major linear FP16 format": "fp16",
    "Row major linear BF16": "bf16",
    "Row major Int8 format": "int8",
    "Four wide channel vectorized row major Int8 format": "int8",
    "Four wide channel vectorized row major FP32 format": "fp32",
    "Two wide channel vectorized row major FP16 format": "fp16",
    "Sixteen wide channel vectorized row major FP16 format": "fp16",
    "Thirty-two wide channel vectorized row major Int8 format": "int8",
    "Thirty-two wide channel vectorized row major FP32 format": "fp32",
    "Channel major FP16 format where channel % 8 == 0": "fp16",
    "Int8": "int8",
    "Half": "fp16",
    "Float": "fp32",
}


@pytest.mark.parametrize("description", FORMATS)
@pytest.mark.parametrize("key", ["Format/Datatype", "Datatype"])
def test_every_format_of_a_dump_in_the_log_is_read(description: str, key: str) -> None:
    line = (
        f"Name: conv_3.weight + conv_3, LayerType: CudaDepthwiseConvolution, Inputs: [ {{ Name: Int8, "
        f"Location: Device, Dimensions: [1,32,112,112], {key}: {description} }}], "
        f"Outputs: [ {{ Name: y, {key}: Row major linear FP32 }}], "
        "ParameterType: Convolution, Weights: {Type: Int8, Count: 288}"
    )
    assert convolution_precisions([line], ["conv_3"]) == {"conv_3": FORMATS[description]}
    assert convolution_precisions([line + ", Metadata: [ONNX Layer: conv_4]"], ["conv_3", "conv_4"]) == {
        "conv_4": FORMATS[description]
    }


def test_names_that_only_begin_alike_are_told_apart() -> None:
    line = (
        "Name: features.0.0.weight + QuantizeLinear_7 + Conv_9 + PWN(Clip_13), LayerType: CaskConvolution, "
        "Inputs: [ { Name: x, Location: Device, Dimensions: [1,3,8,8], Datatype: Half }], Outputs: [ { Name: y }]"
    )
    assert convolution_precisions([line], ["Conv_90", "Conv", "Clip_13"]) == {"Clip_13": "fp16"}
