// The tail's kernels: a thread computes four pixels of a row. The batch is the third dimension of the grid.
#include "tail.h"

// Logits [batch, classes, in_h, in_w] -> uint8 [batch, out_h, out_w]
template <typename Logit>
__device__ void masks_of(const Logit* __restrict__ logits, unsigned char* __restrict__ masks, int classes, int in_h,
                         int in_w, int out_h, int out_w, int align_corners) {
    const int left = 4 * (blockIdx.x * blockDim.x + threadIdx.x), y = blockIdx.y * blockDim.y + threadIdx.y;
    if (left >= out_w || y >= out_h) return;
    logits += static_cast<long long>(blockIdx.z) * classes * in_h * in_w;
    unsigned char* out = masks + (static_cast<long long>(blockIdx.z) * out_h + y) * out_w + left;
    const unsigned word = tail_four(logits, classes, in_h, in_w, out_h, out_w, y, left, align_corners != 0);
    if ((out_w & 3) == 0) {
        *reinterpret_cast<unsigned*>(out) = word;  // rows begin at multiples of four: one store
    } else {
        for (int step = 0; step < 4 && left + step < out_w; ++step) {
            out[step] = static_cast<unsigned char>(word >> (8 * step));
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
    tail_masks(const float* __restrict__ logits, unsigned char* __restrict__ masks, int classes, int in_h, int in_w,
               int out_h, int out_w, int align_corners) {
    masks_of(logits, masks, classes, in_h, in_w, out_h, out_w, align_corners);
}

// The same of FP16 logits, given as their bits.
extern "C" __global__ void __launch_bounds__(256)
    tail_masks_half(const unsigned short* __restrict__ logits, unsigned char* __restrict__ masks, int classes, int in_h,
                    int in_w, int out_h, int out_w, int align_corners) {
    masks_of(logits, masks, classes, in_h, in_w, out_h, out_w, align_corners);
}
