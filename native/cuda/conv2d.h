// What the paths of the convolution share: its geometry, and what each path offers. conv2d.cu asks them in turn, the fastest
// first; a path returns false where the card, the types or the shape are not for it, before it has launched anything.
#pragma once
#include "epilogue.h"

namespace lacuna::cuda::conv2d {

/** The first sixteen parameters of every kernel of the contract. x is [n, height, width, cin], y [n, out_height, out_width, cout]. */
struct Geometry {
  uint32_t n, height, width, cin, out_height, out_width, cout, kh, kw, stride_h, stride_w, pad_top, pad_left;
  uint32_t dilation_h, dilation_w, groups;
};

// forward: y = relu(conv(x, wt) + bias + residual), as the epilogue has it; wt is [kh, kw, cin / groups, cout], all of one type
// grad_input: dx from dy and w [cout, kh, kw, cin / groups], all of one type
// grad_weight: dw [cout, kh, kw, cin / groups] in f32 from x and dy, the sum over all images and pixels

namespace hopper {  // wgmma and TMA: sm_90a
bool forward(const Args& a, const Geometry& p, const void* x, const void* wt, const Epilogue<void>& epilogue, void* y,
             Type type);
bool grad_input(const Args& a, const Geometry& p, const void* dy, const void* w, void* dx, Type type);
bool grad_weight(const Args& a, const Geometry& p, const void* x, const void* dy, float* dw, Type type);
}  // namespace hopper

namespace tensor {  // mma.sync: sm_80 and up
bool forward(const Args& a, const Geometry& p, const void* x, const void* wt, const Epilogue<void>& epilogue, void* y,
             Type type);
bool grad_input(const Args& a, const Geometry& p, const void* dy, const void* w, void* dx, Type type);
bool grad_weight(const Args& a, const Geometry& p, const void* x, const void* dy, float* dw, Type type);
}  // namespace tensor

namespace portable {  // FMAs in f32: every card, type and shape; returns true
bool forward(const Args& a, const Geometry& p, const void* x, const void* wt, const Epilogue<void>& epilogue, void* y,
             Type type);
bool grad_input(const Args& a, const Geometry& p, const void* dy, const void* w, void* dx, Type type);
bool grad_weight(const Args& a, const Geometry& p, const void* x, const void* dy, float* dw, Type type);
}  // namespace portable

// Where groups == cin and no channel meets another: w is [cout, kh, kw] for the forward pass, too.
namespace depthwise {
void forward(const Args& a, const Geometry& p, const void* x, const void* w, const Epilogue<void>& epilogue, void* y,
             Type type);
void grad_input(const Args& a, const Geometry& p, const void* dy, const void* w, void* dx, Type type);
void grad_weight(const Args& a, const Geometry& p, const void* x, const void* dy, float* dw, Type type);
}  // namespace depthwise

}  // namespace lacuna::cuda::conv2d
