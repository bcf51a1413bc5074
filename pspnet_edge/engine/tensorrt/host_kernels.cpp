// The kernels' arithmetic on the processor, so that it can be compared with the ONNX graph where there is no GPU.
#include "head.h"
#include "tail.h"

template <typename Logit>
static void all_masks(const Logit* logits, unsigned char* masks, int batch, int classes, int in_h, int in_w, int out_h,
                      int out_w, int align_corners) {
    for (int image = 0; image < batch; ++image, logits += static_cast<long long>(classes) * in_h * in_w)
        for (int y = 0; y < out_h; ++y)
            for (int x = 0; x < out_w; x += 4) {
                const unsigned word = tail_four(logits, classes, in_h, in_w, out_h, out_w, y, x, align_corners != 0);
                for (int step = 0; step < 4 && x + step < out_w; ++step)
                    masks[(static_cast<long long>(image) * out_h + y) * out_w + x + step] =
                        static_cast<unsigned char>(word >> (8 * step));
            }
}

extern "C" void tail_masks(const float* logits, unsigned char* masks, int batch, int classes, int in_h, int in_w,
                           int out_h, int out_w, int align_corners) {
    all_masks(logits, masks, batch, classes, in_h, in_w, out_h, out_w, align_corners);
}

extern "C" void tail_masks_half(const unsigned short* logits, unsigned char* masks, int batch, int classes, int in_h,
                                int in_w, int out_h, int out_w, int align_corners) {
    all_masks(logits, masks, batch, classes, in_h, in_w, out_h, out_w, align_corners);
}

template <typename Value>
static void whole_input(const unsigned char* pixels, const int* table, const Value* levels, Value* input, const int* n) {
    const HeadShape shape = {n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12]};
    for (int y = 0; y < shape.height; ++y)
        for (int x = 0; x < shape.width; ++x) head_pixel(pixels, table, levels, input, shape, y, x);
}

// The numbers are those of HeadShape, in its order.
extern "C" void head_int8(const unsigned char* pixels, const int* table, const unsigned char* levels, unsigned char* input,
                          const int* numbers) {
    whole_input(pixels, table, levels, input, numbers);
}

extern "C" void head_half(const unsigned char* pixels, const int* table, const unsigned short* levels, unsigned short* input,
                          const int* numbers) {
    whole_input(pixels, table, levels, input, numbers);
}

extern "C" void head_float(const unsigned char* pixels, const int* table, const unsigned* levels, unsigned* input,
                           const int* numbers) {
    whole_input(pixels, table, levels, input, numbers);
}
