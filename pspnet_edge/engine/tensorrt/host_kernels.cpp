// The kernels' arithmetic on the processor, so that it can be compared with the ONNX graph where there is no GPU.
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
