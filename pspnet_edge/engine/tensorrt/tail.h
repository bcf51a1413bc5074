// The arithmetic of the tail: logits at a fraction of the frame's size to class ids, and ids to coloured pixels.
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
TAIL_FUNCTION unsigned char tail_class(const float* logits, int classes, int in_h, int in_w, TailAxis y, TailAxis x) {
    const float weight_11 = x.first_weight * y.first_weight, weight_12 = x.second_weight * y.first_weight;
    const float weight_21 = x.first_weight * y.second_weight, weight_22 = x.second_weight * y.second_weight;
    const float *above = logits + y.first * in_w, *below = logits + y.second * in_w;
    const int plane = in_h * in_w;
    int best = 0;
    float largest = 0.0f;
    for (int index = 0; index < classes; ++index, above += plane, below += plane) {
        const float value = weight_11 * above[x.first] + weight_12 * above[x.second] + weight_21 * below[x.first] +
                            weight_22 * below[x.second];
        if (index == 0 || value > largest) {
            largest = value;
            best = index;
        }
    }
    return static_cast<unsigned char>(best);
}

// One channel of the overlay: `opacity` of 256 parts of the class colour, the rest of the frame, rounded to nearest.
TAIL_FUNCTION unsigned char tail_blend(unsigned char frame, unsigned char colour, int opacity) {
    return static_cast<unsigned char>((frame * (256 - opacity) + colour * opacity + 128) >> 8);
}
