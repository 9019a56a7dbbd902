// Reductions of x, seen as [outer, length, inner], over `length`: sum, maximum and its position; and their gradients,
// which repeat dy (expand) or send it to the maximum (route).
#include "column_sums.h"
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::reduce {

constexpr size_t GRAIN = 32768;

struct Splits {
  uint32_t outer, length, inner, splits;
};
struct Params {
  uint32_t outer, length, inner;
};

/** y[o, s, i] = sum of x[o, l, i] over l = s, s + splits, …: columns of a matrix whose rows hold `splits` terms. */
void add_up(const Splits& p, const Args& args) {
  float* y = args.out(0);
  const size_t width = size_t{p.splits} * p.inner;
  column_sums::compute<column_sums::Plain>(args.in(0), p.outer, size_t{p.length} * p.inner, width,
                                           [=](size_t o, size_t j, auto s) {
                                             y[o * width + j] = static_cast<float>(s);
                                           });
}

/** dx[o, l, i] = dy[o, i]. A range owns rows [o, l]. */
void expand(const Params& p, const Args& args) {
  const float* dy = args.in(0);
  float* dx = args.out(0);
  const size_t length = p.length, inner = p.inner;
  if (inner == 1 || inner >= 64) {
    // Runs of one value, or rows that are worth a copy each.
    return parallel_for(p.outer * length, GRAIN / inner + 1, [=](size_t begin, size_t end) {
      for (size_t row = begin; row < end;) {
        const size_t o = row / length;
        const size_t last = (o + 1) * length < end ? (o + 1) * length : end;
        if (inner == 1) {
          const float value = dy[o];
          for (; row < last; row++) dx[row] = value;
        } else {
          for (; row < last; row++) std::memcpy(dx + row * inner, dy + o * inner, inner * sizeof(float));
        }
      }
    });
  }
  // Short rows: repeated in a buffer first.
  constexpr size_t BUFFER = 1024;
  const size_t rows = BUFFER / inner;
  parallel_for(p.outer * length, GRAIN / inner, [=](size_t begin, size_t end) {
    float repeated[BUFFER];
    for (size_t row = begin; row < end;) {
      const size_t o = row / length;
      const size_t last = (o + 1) * length < end ? (o + 1) * length : end;
      const size_t filled = last - row < rows ? last - row : rows;
      for (size_t r = 0; r < filled; r++) {
        for (size_t i = 0; i < inner; i++) repeated[r * inner + i] = dy[o * inner + i];
      }
      for (; row < last;) {
        const size_t n = last - row < rows ? last - row : rows;
        std::memcpy(dx + row * inner, repeated, n * inner * sizeof(float));
        row += n;
      }
    }
  });
}

LACUNA_INLINE IVec choose(Mask mask, IVec yes, IVec no) {
  return bits<IVec>(select(mask, bits<Vec>(yes), bits<Vec>(no)));
}

/** First maximum of neighbours: each lane keeps its own, the lowest position wins among equals. */
LACUNA_INLINE void largest_of_run(const float* x, size_t length, float* y, uint32_t* index) {
  float best = x[0];
  uint32_t first = 0;
  size_t l = 1;
  if (length >= 4 * LANES) {
    Vec value = splat(best);
    IVec at = splat_int(0), here;
    for (size_t k = 0; k < LANES; k++) here[k] = static_cast<int32_t>(k);
    const UVec step = bits<UVec>(splat_int(LANES));
    for (l = 0; l + LANES <= length; l += LANES) {
      const Vec v = load(x + l);
      const Mask more = v > value;
      value = select(more, v, value);
      at = choose(more, here, at);
      here = bits<IVec>(bits<UVec>(here) + step);
    }
    for (size_t k = 0; k < LANES; k++) {
      const uint32_t position = static_cast<uint32_t>(at[k]);
      if (value[k] > best || (value[k] == best && position < first)) {
        best = value[k];
        first = position;
      }
    }
  }
  for (; l < length; l++) {
    const bool more = x[l] > best;
    best = more ? x[l] : best;
    first = more ? static_cast<uint32_t>(l) : first;
  }
  *y = best;
  *index = first;
}

/** First maximum along a stride, V · LANES columns at once: memory is read in whole rows where that is all of them. */
template <size_t V>
LACUNA_INLINE void largest_of_columns(const float* x, size_t length, size_t stride, float* y, uint32_t* index) {
  Vec best[V];
  IVec first[V];
  for (size_t v = 0; v < V; v++) {
    best[v] = load(x + v * LANES);
    first[v] = splat_int(0);
  }
  for (size_t l = 1; l < length; l++) {
    const IVec here = splat_int(static_cast<int32_t>(l));
    for (size_t v = 0; v < V; v++) {
      const Vec value = load(x + l * stride + v * LANES);
      const Mask more = value > best[v];
      best[v] = select(more, value, best[v]);
      first[v] = choose(more, here, first[v]);
    }
  }
  std::memcpy(y, best, sizeof(best));
  std::memcpy(index, first, sizeof(first));
}

/** As in the definition, a NaN is the maximum only where it comes first. */
void maximum(const Params& p, const Args& args) {
  const float* x = args.in(0);
  float* y = args.out(0);
  uint32_t* index = args.out<uint32_t>(1);
  const size_t length = p.length, inner = p.inner;
  if (inner == 1) {
    return parallel_for(p.outer, GRAIN / (length + 1) + 1, [=](size_t begin, size_t end) {
      for (size_t o = begin; o < end; o++) largest_of_run(x + o * length, length, y + o, index + o);
    });
  }
  // A range owns elements of y; columns that fill no vector are done one by one.
  constexpr size_t COLUMNS = 4 * LANES;
  parallel_for(p.outer * inner, GRAIN / (length + 1) / COLUMNS * COLUMNS + COLUMNS, [=](size_t begin, size_t end) {
    for (size_t at = begin; at < end;) {
      const size_t o = at / inner, i = at % inner;
      const float* from = x + o * length * inner + i;
      if (i + COLUMNS <= inner && at + COLUMNS <= end) {
        largest_of_columns<4>(from, length, inner, y + at, index + at);
        at += COLUMNS;
        continue;
      }
      if (i + LANES <= inner && at + LANES <= end) {
        largest_of_columns<1>(from, length, inner, y + at, index + at);
        at += LANES;
        continue;
      }
      float best = *from;
      uint32_t first = 0;
      for (size_t l = 1; l < length; l++) {
        const float v = from[l * inner];
        const bool more = v > best;
        best = more ? v : best;
        first = more ? static_cast<uint32_t>(l) : first;
      }
      y[at] = best;
      index[at] = first;
      at++;
    }
  });
}

/** dx[o, l, i] = dy[o, i] where index[o, i] = l, else 0. */
void route(const Params& p, const Args& args) {
  const float* dy = args.in(0);
  const uint32_t* index = args.in<uint32_t>(1);
  float* dx = args.out(0);
  const size_t length = p.length, inner = p.inner;
  // A range owns rows [o, l]: it clears them, and puts those elements of dy in that belong there.
  parallel_for(p.outer * length, GRAIN / inner + 1, [=](size_t begin, size_t end) {
    std::memset(dx + begin * inner, 0, (end - begin) * inner * sizeof(float));
    for (size_t row = begin, o = begin / length; row < end; o++) {
      const size_t from = row - o * length;
      const size_t to = (o + 1) * length < end ? length : end - o * length;
      for (size_t i = 0; i < inner; i++) {
        const size_t l = index[o * inner + i];
        if (l >= from && l < to) dx[(o * length + l) * inner + i] = dy[o * inner + i];
      }
      row += to - from;
    }
  });
}

const Register kernels[] = {
    {"reduce.sum", 1, 1, add_up},
    {"reduce.expand", 1, 1, expand},
    {"reduce.maximum", 1, 2, maximum},
    {"reduce.route", 2, 1, route},
};

}  // namespace lacuna::cpu::LACUNA_ISA::reduce
