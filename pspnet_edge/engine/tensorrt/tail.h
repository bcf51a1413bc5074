// The arithmetic of the tail: logits at a fraction of the frame's size to class ids.
//
// Plain C++ without a header, so that nvcc puts it into the kernels and g++ into the test that compares its masks, bit by
// bit, with those of the ONNX graph. Compile without contraction (nvcc -fmad=false, g++ -ffp-contract=off): a fused
// multiply-add rounds once where the graph rounds twice.
#pragma once

#ifdef __CUDACC__
#define TAIL_FUNCTION __host__ __device__ inline
#else
#define TAIL_FUNCTION inline
#endif

// A logit as a float: FP32 as it is, FP16 (given as its 16 bits) without loss.
TAIL_FUNCTION float tail_float(float value) { return value; }
TAIL_FUNCTION float tail_float(unsigned short half) {
#ifdef __CUDA_ARCH__
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
#else
    const unsigned sign = (half & 0x8000u) << 16, exponent = (half >> 10) & 31u, fraction = half & 0x3ffu;
    union {
        unsigned bits;
        float value;
    } word;
    if (exponent == 0) {  // zero and what is too small for a leading one: fraction · 2^-24, exact in a float
        word.value = static_cast<float>(fraction) * (1.0f / 16777216.0f);
        word.bits |= sign;
    } else {
        word.bits = sign | ((exponent == 31 ? 255u : exponent + 112u) << 23) | (fraction << 13);
    }
    return word.value;
#endif
}

// Two neighbours along one axis and their weights.
struct TailAxis {
    int first, second;
    float first_weight, second_weight;
};

// Where output index `at` of `out` lies among `in` values: ONNX Resize, linear, half_pixel or align_corners.
TAIL_FUNCTION TailAxis tail_axis(int at, int in, int out, bool align_corners) {
    float place;
    if (align_corners) {
        place = out == 1 ? 0.0f : static_cast<float>(at) * static_cast<float>(in - 1) / static_cast<float>(out - 1);
    } else {
        const float scale = static_cast<float>(out) / static_cast<float>(in);
        place = (static_cast<float>(at) + 0.5f) / scale - 0.5f;
    }
    place = place < 0.0f ? 0.0f : place;
    place = place > static_cast<float>(in - 1) ? static_cast<float>(in - 1) : place;
    TailAxis axis;
    axis.first = static_cast<int>(place);
    axis.second = axis.first + 1 < in ? axis.first + 1 : in - 1;
    if (axis.first == axis.second) {
        axis.first_weight = axis.second_weight = 0.5f;
    } else {
        axis.first_weight = static_cast<float>(axis.second) - place;
        axis.second_weight = place - static_cast<float>(axis.first);
    }
    return axis;
}

// The class of one pixel: logits are [classes, in_h, in_w]; of equal ones the first wins, as in ArgMax.
template <typename Logit>
TAIL_FUNCTION unsigned char tail_class(const Logit* __restrict__ logits, int classes, int in_h, int in_w, TailAxis y, TailAxis x) {
    const float weight_11 = x.first_weight * y.first_weight, weight_12 = x.second_weight * y.first_weight;
    const float weight_21 = x.first_weight * y.second_weight, weight_22 = x.second_weight * y.second_weight;
    const Logit *above = logits + y.first * in_w, *below = logits + y.second * in_w;
    const int plane = in_h * in_w;
    int best = 0;
    float largest = 0.0f;
    for (int index = 0; index < classes; ++index, above += plane, below += plane) {
        const float value = weight_11 * tail_float(above[x.first]) + weight_12 * tail_float(above[x.second]) +
                            weight_21 * tail_float(below[x.first]) + weight_22 * tail_float(below[x.second]);
        if (index == 0 || value > largest) {
            largest = value;
            best = index;
        }
    }
    return static_cast<unsigned char>(best);
}

// The classes of up to four neighbours in a row, from column `left` on: one word holds them, the first in its low byte.
template <typename Logit>
TAIL_FUNCTION unsigned tail_four(const Logit* __restrict__ logits, int classes, int in_h, int in_w, int out_h, int out_w,
                                 int y, int left, bool align_corners) {
    const TailAxis down = tail_axis(y, in_h, out_h, align_corners);
    unsigned word = 0;
    for (int step = 0; step < 4 && left + step < out_w; ++step) {
        const TailAxis across = tail_axis(left + step, in_w, out_w, align_corners);
        word |= static_cast<unsigned>(tail_class(logits, classes, in_h, in_w, down, across)) << (8 * step);
    }
    return word;
}
