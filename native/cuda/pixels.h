// Maps of pixels: f(row, column, piece) for [rows, columns, pieces], where a piece is N channels that one thread owns.
// Neighbouring threads own neighbouring pieces, then neighbouring columns, so that loads and stores of 16 bytes follow each
// other; what depends on the row alone is the same for a whole block, and a division finds the column once for all rows of
// the thread.
#pragma once
#include "divide.h"
#include "kernel.h"

namespace lacuna::cuda {

template <class F>
__global__ void __launch_bounds__(BLOCK) pixels_kernel(uint32_t rows, uint32_t in_row, Divisor pieces, F f) {
  const uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= in_row) return;
  uint32_t piece;
  const uint32_t column = pieces.divide(i, piece);
  for (uint32_t row = blockIdx.y; row < rows; row += gridDim.y) f(row, column, piece);
}

/** f is a struct with a __device__ operator()(uint32_t row, uint32_t column, uint32_t piece) const. */
template <class F>
void each_pixel(const Args& a, size_t rows, uint32_t columns, uint32_t pieces, F f) {
  const size_t in_row = static_cast<size_t>(columns) * pieces;
  if (rows == 0 || in_row == 0) return;
  const unsigned block = in_row < BLOCK ? ceil_div(in_row, 32) * 32 : BLOCK;
  const unsigned x = ceil_div(in_row, block);
  const size_t most = static_cast<size_t>(a.multiprocessors()) * 64 / x + 1;
  const unsigned y = static_cast<unsigned>(rows < most ? rows : most < 65535 ? most : 65535);
  a.launch(pixels_kernel<F>, dim3(x, y), dim3(block), 0, static_cast<uint32_t>(rows), static_cast<uint32_t>(in_row),
           Divisor(pieces), f);
}

template <int N>
struct Width {
  static constexpr int value = N;
};
/** Calls f(t, n): a value of the element type, and how many channels a piece has, 16 bytes of them where that is possible. */
template <class F, class... P>
void in_pieces(Type type, uint32_t channels, F&& f, const P*... addresses) {
  with_type(type, [&](auto t) {
    using T = decltype(t);
    if (in_vectors<WIDE<T>>(channels, static_cast<const T*>(static_cast<const void*>(addresses))...)) {
      f(t, Width<WIDE<T>>{});
    } else {
      f(t, Width<1>{});
    }
  });
}

/** F<T, N>{p, x, y} is called for every pixel of y: `rows` by `columns`, of p's channels, all of one type. */
template <template <class, int> class F, class P>
void map_pixels(const Args& a, const P& p, size_t rows, uint32_t columns) {
  in_pieces(
      a.out_type(0), p.channels,
      [&](auto t, auto n) {
        using T = decltype(t);
        constexpr int N = decltype(n)::value;
        each_pixel(a, rows, columns, p.channels / N, F<T, N>{p, a.in<T>(0), a.out<T>(0)});
      },
      a.in<void>(0), a.out<void>(0));
}

}  // namespace lacuna::cuda
