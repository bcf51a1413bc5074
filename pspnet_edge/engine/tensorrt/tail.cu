// The tail's kernels: a thread a pixel. The batch is the third dimension of the grid.
#include "tail.h"

// float [batch, classes, in_h, in_w] -> uint8 [batch, out_h, out_w]
extern "C" __global__ void tail_masks(const float* logits, unsigned char* masks, int classes, int in_h, int in_w,
                                      int out_h, int out_w, int align_corners) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_w || y >= out_h) return;
    const TailAxis across = tail_axis(x, in_w, out_w, align_corners != 0);
    const TailAxis down = tail_axis(y, in_h, out_h, align_corners != 0);
    logits += static_cast<long long>(blockIdx.z) * classes * in_h * in_w;
    masks[(static_cast<long long>(blockIdx.z) * out_h + y) * out_w + x] =
        tail_class(logits, classes, in_h, in_w, down, across);
}

// uint8 BGR [height, width, 3] and uint8 ids [height, width] -> uint8 BGR; colours is uint8 [256, 3]. In place is fine.
extern "C" __global__ void tail_overlay(const unsigned char* frame, const unsigned char* mask,
                                        const unsigned char* colours, unsigned char* picture, int height, int width,
                                        int opacity) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    const int pixel = y * width + x;
    const unsigned char* colour = colours + 3 * mask[pixel];
    for (int channel = 0; channel < 3; ++channel) {
        picture[3 * pixel + channel] = tail_blend(frame[3 * pixel + channel], colour[channel], opacity);
    }
}
