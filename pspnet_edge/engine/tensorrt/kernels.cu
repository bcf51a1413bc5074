// The kernels of the tail, where a thread computes four pixels of a row and the batch is the third dimension of the grid, and
// of the head.
#include "head.h"
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

// Pixels of one picture -> the network's input, a thread for each pixel of the input. The table of levels is read through
// shared memory: neighbours look up different entries, which there costs no more than the same one.
template <typename Value>
__device__ void input_of(const unsigned char* __restrict__ pixels, const int* __restrict__ table,
                         const Value* __restrict__ levels, Value* __restrict__ input, const HeadShape& shape) {
    __shared__ Value nearby[4 * 256];
    for (int index = threadIdx.y * blockDim.x + threadIdx.x; index < 256 * shape.channels; index += blockDim.x * blockDim.y) {
        nearby[index] = levels[index];
    }
    __syncthreads();
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x < shape.width && y < shape.height) head_pixel(pixels, table, nearby, input, shape, y, x);
}

#define HEAD_KERNEL(name, Value)                                                                                        \
    extern "C" __global__ void __launch_bounds__(256)                                                                   \
        name(const unsigned char* __restrict__ pixels, const int* __restrict__ table, const Value* __restrict__ levels, \
             Value* __restrict__ input, int pitch, int pixel_bytes, int channels, int order, int height, int width,     \
             int top, int left, int inner_height, int inner_width, int method, int margin, int lanes) {                 \
        input_of(pixels, table, levels, input,                                                                          \
                 {pitch, pixel_bytes, channels, order, height, width, top, left, inner_height, inner_width, method,     \
                  margin, lanes});                                                                                      \
    }

HEAD_KERNEL(head_int8, unsigned char)
HEAD_KERNEL(head_half, unsigned short)
HEAD_KERNEL(head_float, unsigned)
