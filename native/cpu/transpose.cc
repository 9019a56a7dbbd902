// y[o, i0 … i5] = x[o, i0 · stride0 + … + i5 · stride5]. Elements are four bytes whatever their type.
//
// Where the last axis of y is contiguous in x, rows are copied. Else one axis of y is contiguous in x and another (the
// last) in y: these two are walked in squares of LANES x LANES, which are read and written in whole vectors and turned
// in registers. A range owns a run of columns of squares, so that both sides stay within few pages.
#include "rows.h"

namespace lacuna::cpu::LACUNA_ISA::transpose {

struct Params {
  uint32_t outer;
  uint32_t size[6];
  uint32_t stride[6];
};

#if LACUNA_SHUFFLE
/** a0 b0 a1 b1 … of the lower halves, and of the upper. */
LACUNA_INLINE Vec interleave_low(Vec a, Vec b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#else
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
#endif
}
LACUNA_INLINE Vec interleave_high(Vec a, Vec b) {
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#else
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
#endif
}
#endif

/** y[i · y_stride + j] = x[j · x_stride + i] for i, j < LANES. */
LACUNA_INLINE void turn(const float* x, size_t x_stride, float* y, size_t y_stride) {
#if LACUNA_SHUFFLE
  Vec a[LANES], b[LANES];
  for (size_t j = 0; j < LANES; j++) a[j] = load(x + j * x_stride);
  // Interleaving the halves of the list moves each bit of an element's address by one: after log2(LANES) times the row
  // number has become the lane.
  for (size_t step = 1; step < LANES; step *= 2) {
    for (size_t k = 0; k < LANES / 2; k++) {
      b[2 * k] = interleave_low(a[k], a[k + LANES / 2]);
      b[2 * k + 1] = interleave_high(a[k], a[k + LANES / 2]);
    }
    for (size_t k = 0; k < LANES; k++) a[k] = b[k];
  }
  for (size_t i = 0; i < LANES; i++) store(y + i * y_stride, a[i]);
#else
  for (size_t i = 0; i < LANES; i++) {
    for (size_t j = 0; j < LANES; j++) y[i * y_stride + j] = x[j * x_stride + i];
  }
#endif
}

/** [rows of x, columns of x] turned: y[i · y_stride + j] = x[j · x_stride + i], i < columns, j < rows. */
void turn_matrix(const float* x, size_t x_stride, float* y, size_t y_stride, size_t rows, size_t columns) {
  size_t j = 0;
  for (; j + LANES <= rows; j += LANES) {
    size_t i = 0;
    for (; i + LANES <= columns; i += LANES) turn(x + j * x_stride + i, x_stride, y + i * y_stride + j, y_stride);
    for (; i < columns; i++) {
      for (size_t k = j; k < j + LANES; k++) y[i * y_stride + k] = x[k * x_stride + i];
    }
  }
  for (; j < rows; j++) {
    for (size_t i = 0; i < columns; i++) y[i * y_stride + j] = x[j * x_stride + i];
  }
}

void permute(const Params& p, const Args& args) {
  const float* x = args.in(0);  // moved, never computed with
  float* y = args.out(0);
  size_t place[6];  // strides of y
  size_t item = 1;
  for (int axis = 5; axis >= 0; axis--) {
    place[axis] = item;
    item *= p.size[axis];
  }
  // The axis that is contiguous in x; the last if there is none (then rows are gathered).
  int contiguous = 5;
  for (int axis = 0; axis < 6; axis++) {
    if (p.size[axis] > 1 && p.stride[axis] == 1) contiguous = axis;
  }
  const size_t length = p.size[5], step = p.stride[5];
  const bool turned = contiguous != 5;
  // Of the axes that remain, every combination is a matrix (or a row): numbered in the order of y.
  size_t size[5], from[5], to[5];
  size_t matrices = 1;
  for (int axis = 0; axis < 5; axis++) {
    size[axis] = axis == contiguous ? 1 : p.size[axis];
    from[axis] = p.stride[axis];
    to[axis] = place[axis];
    matrices *= size[axis];
  }
  const auto position = [&](size_t index, size_t& source, size_t& target) {
    source = target = 0;
    for (int axis = 4; axis >= 0; axis--) {
      const size_t at = index % size[axis];
      index /= size[axis];
      source += at * from[axis];
      target += at * to[axis];
    }
    source += index * item;
    target += index * item;
  };
  if (!turned) {
    return parallel_for(p.outer * matrices, 32768 / (length + 1) + 1, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; i++) {
        size_t source, target;
        position(i, source, target);
        if (step == 1) {
          rows::copy(y + target, x + source, length);
        } else {
          for (size_t k = 0; k < length; k++) y[target + k] = x[source + k * step];
        }
      }
    });
  }
  // Rows of x (neighbours in y) of a matrix in pieces: whole cache lines of y, and about 32k elements.
  const size_t columns = p.size[contiguous], y_stride = place[contiguous];
  size_t piece = (32768 / columns + 16) / 16 * 16;
  if (piece > length) piece = length;
  const size_t pieces = (length + piece - 1) / piece;
  parallel_for(p.outer * matrices * pieces, 32768 / (piece * columns) + 1, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) {
      size_t source, target;
      position(i / pieces, source, target);
      const size_t first = i % pieces * piece;
      const size_t rows = first + piece < length ? piece : length - first;
      turn_matrix(x + source + first * step, step, y + target + first, y_stride, rows, columns);
    }
  });
}

const Register kernels[] = {
    {"transpose.permute", 1, 1, permute},
    {"transpose.permute_integer", 1, 1, permute},
};

}  // namespace lacuna::cpu::LACUNA_ISA::transpose
