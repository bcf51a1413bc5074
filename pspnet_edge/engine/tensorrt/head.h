// The arithmetic of the head: a camera's pixels, of any size, to the network's input.
//
// Plain C++ without a header, for nvcc and g++ alike, to be compiled without contraction: see tail.h. The resize is that of
// `data/geometry.py`, whose arithmetic is OpenCV's: bilinear in whole numbers, means in FP32. Which source pixels an output
// pixel takes, and with which weights, stands in a table that `resample.py` makes. Normalization and quantization are a
// table too: 256 values for each channel, as the ONNX graph computes them.
#pragma once

#ifdef __CUDACC__
#define HEAD_FUNCTION __host__ __device__ inline
#else
#define HEAD_FUNCTION inline
#endif

enum HeadMethod { HEAD_BILINEAR = 0, HEAD_AREA = 1, HEAD_MEAN = 2 };

// What one output row or column takes of the source.
struct alignas(16) HeadTaps {
    int first;          // index of the first row or column
    int second;         // bilinear: index of the other one; else how many follow each other
    int weight;         // bilinear: of the first, in 2048ths; area: where the weights begin in the table, as FP32
    int second_weight;  // bilinear: of the other one
};

// One picture and where it goes; the network's input has a margin around it where it is smaller.
struct HeadShape {
    int pitch;        // bytes from one row to the next
    int pixel_bytes;  // bytes from one pixel to the next
    int channels;     // of the network, 1 to 4
    int order;        // which byte of a pixel is channel c: bits 8c to 8c + 7
    int height, width;
    int top, left, inner_height, inner_width;  // where the picture lies in the input
    int method;
    int margin;  // level of the pixels around the picture
    int lanes;   // channels that lie beside each other in memory: 1 for NCHW, 4 for NC/4HW4, 8 for NHWC8
};

// Four channels of one pixel, as many as there can be; stored at once.
template <typename Value>
struct alignas(4 * sizeof(Value)) HeadLanes {
    Value channel[4];
};

// Unrolled, so that what belongs to a channel stays in registers; those that the network lacks are left out.
#ifdef __CUDA_ARCH__
#define HEAD_FOR_CHANNELS _Pragma("unroll") for (int channel = 0; channel < 4; ++channel) if (channel < shape.channels)
#else
#define HEAD_FOR_CHANNELS for (int channel = 0; channel < shape.channels; ++channel)
#endif

// Which byte of a pixel is a channel of the network.
HEAD_FUNCTION int head_byte(const HeadShape& shape, int channel) { return shape.order >> (8 * channel) & 255; }

// To the nearest whole number, halves to the even one; of values from 0 to 255.
HEAD_FUNCTION int head_rounded(float value) { return static_cast<int>((value + 8388608.0f) - 8388608.0f); }

// The levels, 0 to 255, of the channels of one pixel; `source` is the picture's first pixel.
HEAD_FUNCTION HeadLanes<int> head_levels(const unsigned char* __restrict__ source, const int* __restrict__ table, HeadTaps y,
                                         HeadTaps x, const HeadShape& shape) {
    HeadLanes<int> found = {};
    const unsigned char* row = source + y.first * shape.pitch + x.first * shape.pixel_bytes;
    if (shape.method == HEAD_BILINEAR) {
        const unsigned char* below = source + y.second * shape.pitch + x.first * shape.pixel_bytes;
        const int right = (x.second - x.first) * shape.pixel_bytes;
        HEAD_FOR_CHANNELS {
            const int at = head_byte(shape, channel);
            const int upper = row[at] * x.weight + row[right + at] * x.second_weight;
            const int lower = below[at] * x.weight + below[right + at] * x.second_weight;
            found.channel[channel] = ((y.weight * (upper >> 4) >> 16) + (y.second_weight * (lower >> 4) >> 16) + 2) >> 2;
        }
    } else if (shape.method == HEAD_MEAN) {
        for (int down = 0; down < y.second; ++down, row += shape.pitch) {
            const unsigned char* pixel = row;
            for (int across = 0; across < x.second; ++across, pixel += shape.pixel_bytes) {
                HEAD_FOR_CHANNELS found.channel[channel] += pixel[head_byte(shape, channel)];
            }
        }
        const bool four = x.second == 2 && y.second == 2;
        const float share = 1.0f / static_cast<float>(x.second * y.second);
        HEAD_FOR_CHANNELS {
            const int sum = found.channel[channel];
            found.channel[channel] = four ? (sum + 2) >> 2 : head_rounded(static_cast<float>(sum) * share);
        }
    } else {
        const float* weights = reinterpret_cast<const float*>(table);
        HeadLanes<float> value = {};
        for (int down = 0; down < y.second; ++down, row += shape.pitch) {
            const unsigned char* pixel = row;
            HeadLanes<float> sum = {};
            for (int across = 0; across < x.second; ++across, pixel += shape.pixel_bytes) {
                const float weight = weights[x.weight + across];
                HEAD_FOR_CHANNELS {
                    sum.channel[channel] += static_cast<float>(pixel[head_byte(shape, channel)]) * weight;
                }
            }
            HEAD_FOR_CHANNELS value.channel[channel] += sum.channel[channel] * weights[y.weight + down];
        }
        HEAD_FOR_CHANNELS found.channel[channel] = head_rounded(value.channel[channel]);
    }
    return found;
}

// One pixel of the network's input, all channels of it.
//
// `table` holds the taps of the columns, then those of the rows, then weights. `levels` is [channels, 256]. `input` is
// [channels, height, width] or, with lanes, [height, width, lanes] with zeros behind the channels. A value is moved and never
// computed with, so its type is an unsigned one of as many bytes.
template <typename Value>
HEAD_FUNCTION void head_pixel(const unsigned char* __restrict__ pixels, const int* __restrict__ table,
                              const Value* __restrict__ levels, Value* __restrict__ input, const HeadShape& shape, int y,
                              int x) {
    const int row = y - shape.top, column = x - shape.left;
    const bool inside = row >= 0 && row < shape.inner_height && column >= 0 && column < shape.inner_width;
    const HeadTaps* taps = reinterpret_cast<const HeadTaps*>(table);
    HeadLanes<int> found = {{shape.margin, shape.margin, shape.margin, shape.margin}};
    if (inside) found = head_levels(pixels, table, taps[shape.inner_width + row], taps[column], shape);
    HeadLanes<Value> values = {}, none = {};
    HEAD_FOR_CHANNELS values.channel[channel] = levels[256 * channel + found.channel[channel]];
    const int place = y * shape.width + x, plane = shape.height * shape.width;
    if (shape.lanes == 1) {
        HEAD_FOR_CHANNELS input[channel * plane + place] = values.channel[channel];
        return;
    }
    HeadLanes<Value>* pixel = reinterpret_cast<HeadLanes<Value>*>(input + place * shape.lanes);
    pixel[0] = values;
    if (shape.lanes == 8) pixel[1] = none;
}
