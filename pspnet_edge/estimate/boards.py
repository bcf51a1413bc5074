"""What NVIDIA publishes of the boards that an estimate can be made for.

Peaks follow from units × clock × multiply-accumulates a unit and clock, which gives the data sheets' dense figures:
AGX Xavier 11 TFLOPS FP16 and 22 TOPS INT8, AGX Orin 64 GB 85 dense (170 sparse) TOPS INT8 of its GPU, Thor T5000 517
dense (1035 sparse) TFLOPS FP8. DLA cores are not counted, because engines of this package run on the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """Dense multiply-accumulates a clock of one tensor core; 0 where there is none or it lacks the type."""

    name: str
    tf32: int = 0
    fp16: int = 0
    int8: int = 0


MAXWELL = Architecture("Maxwell")
PASCAL = Architecture("Pascal")
VOLTA = Architecture("Volta", fp16=64, int8=128)
AMPERE = Architecture("Ampere", tf32=128, fp16=256, int8=512)
# Thor's data sheet gives FP4 and FP8. FP16 is taken as half of FP8 and INT8 as FP8, as on the data centre's Blackwell.
BLACKWELL = Architecture("Blackwell", tf32=512, fp16=1024, int8=2048)


@dataclass(frozen=True)
class Board:
    """A module in one power mode."""

    title: str
    architecture: Architecture
    cuda_cores: int
    tensor_cores: int
    clock_mhz: float
    """Highest GPU clock of the power mode."""
    bandwidth_gb_s: float
    """Peak of the memory, in 10⁹ bytes a second."""
    power_mode: str
    source: str
    """The document that the figures are from."""

    @property
    def processors(self) -> int:
        """Streaming multiprocessors: 128 cores each on Maxwell, Pascal, Ampere and Blackwell, 64 on Volta."""
        return self.cuda_cores // (64 if self.architecture is VOLTA else 128)

    def cuda_macs_per_s(self, bits: int) -> float:
        """Peak of the CUDA cores in FP32 (one multiply-accumulate a clock) or FP16 (two)."""
        return self.cuda_cores * self.clock_mhz * 1e6 * (1 if bits == 32 else 2)

    def tensor_macs_per_s(self, bits: int) -> float:
        """Dense peak of the tensor cores in TF32, FP16 or INT8; 0 where they cannot."""
        a_clock = {32: self.architecture.tf32, 16: self.architecture.fp16, 8: self.architecture.int8}[bits]
        return self.tensor_cores * self.clock_mhz * 1e6 * a_clock

    @property
    def takes_our_kernels(self) -> bool:
        """Whether an engine gets our head and tail there: Orin and Thor. The others' TensorRT is older than 8.6."""
        return self.architecture in (AMPERE, BLACKWELL)

    @property
    def has_int8(self) -> bool:
        """Whether TensorRT computes in INT8 on it: not before compute capability 6.1, and TX2 has 6.2 without it."""
        return self.architecture.int8 > 0


_NANO = "NVIDIA Jetson Nano module data sheet"
_TX2 = "NVIDIA Jetson TX2 series module data sheet"
_XAVIER_NX = "NVIDIA Jetson Xavier NX series data sheet"
_AGX_XAVIER = "NVIDIA Jetson AGX Xavier series data sheet"
_ORIN_NANO = "NVIDIA Jetson Orin Nano series data sheet"
_ORIN_NX = "NVIDIA Jetson Orin NX series data sheet"
_AGX_ORIN = "NVIDIA Jetson AGX Orin series data sheet and technical brief"
_THOR = "NVIDIA Jetson Thor series data sheet"

BOARDS: dict[str, Board] = {
    "nano": Board("Jetson Nano 4 GB", MAXWELL, 128, 0, 921.6, 25.6, "MAXN (10 W)", _NANO),
    "tx2": Board("Jetson TX2", PASCAL, 256, 0, 1300, 59.7, "MAXN (15 W)", _TX2),
    "xavier-nx": Board("Jetson Xavier NX", VOLTA, 384, 48, 1100, 59.7, "20 W", _XAVIER_NX),
    "agx-xavier": Board("Jetson AGX Xavier", VOLTA, 512, 64, 1377, 136.5, "MAXN", _AGX_XAVIER),
    "orin-nano-4gb": Board("Jetson Orin Nano 4 GB", AMPERE, 512, 16, 625, 34, "10 W", _ORIN_NANO),
    "orin-nano": Board("Jetson Orin Nano 8 GB", AMPERE, 1024, 32, 625, 68, "15 W", _ORIN_NANO),
    "orin-nano-super": Board("Jetson Orin Nano 8 GB Super", AMPERE, 1024, 32, 1020, 102, "MAXN_SUPER", _ORIN_NANO),
    "orin-nx-8gb": Board("Jetson Orin NX 8 GB", AMPERE, 1024, 32, 765, 102.4, "MAXN (20 W)", _ORIN_NX),
    "orin-nx": Board("Jetson Orin NX 16 GB", AMPERE, 1024, 32, 918, 102.4, "MAXN (25 W)", _ORIN_NX),
    "orin-nx-super": Board("Jetson Orin NX 16 GB Super", AMPERE, 1024, 32, 1173, 102.4, "MAXN_SUPER", _ORIN_NX),
    "agx-orin-32gb": Board("Jetson AGX Orin 32 GB", AMPERE, 1792, 56, 930, 204.8, "MAXN (40 W)", _AGX_ORIN),
    "agx-orin": Board("Jetson AGX Orin 64 GB", AMPERE, 2048, 64, 1300, 204.8, "MAXN (60 W)", _AGX_ORIN),
    "thor-t4000": Board("Jetson Thor T4000", BLACKWELL, 1536, 48, 1530, 273, "MAXN (70 W)", _THOR),
    "thor": Board("Jetson Thor T5000", BLACKWELL, 2560, 80, 1575, 273, "MAXN (130 W)", _THOR),
}
"""By the name that ``benchmark --estimate`` takes."""
