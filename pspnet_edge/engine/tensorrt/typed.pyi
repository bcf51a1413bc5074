# The classes of TensorRT that annotations in this folder name; there is no such module when the program runs, because
# the runtime may be `tensorrt` or `tensorrt_rtx`. With the package `tensorrt-stubs` mypy checks every use of them.
from tensorrt import Builder as Builder  # type: ignore[import-not-found, unused-ignore]
from tensorrt import IBuilderConfig as IBuilderConfig
from tensorrt import ICudaEngine as ICudaEngine
from tensorrt import IExecutionContext as IExecutionContext
from tensorrt import ILayer as ILayer
from tensorrt import INetworkDefinition as INetworkDefinition
from tensorrt import ITensor as ITensor
from tensorrt import ITimingCache as ITimingCache
from tensorrt import OnnxParser as OnnxParser
from tensorrt import ParserError as ParserError
from tensorrt import Runtime as Runtime
