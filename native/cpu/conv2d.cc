// Dense and grouped convolution as products of matrices that are never laid out whole:
//   y[p, o]       = relu(bias[o] + Σ_tap Σ_c x[p + tap, c] · wt[tap, c, o] + residual[p, o])
//   dx[q, c]      = Σ_tap Σ_o dy[q − tap, o] · w[o, tap, c]
//   dw[o, tap, c] = Σ_p dy[p, o] · x[p + tap, c]
// The first two are one routine: rows are pixels of the map that is written, terms are (tap, channel) of the other map,
// in chunks of at most DEPTH. A range owns a block of pixels (and of channels, where pixels are few). For each chunk it
// gathers the rows that the chunk's tap meets inside the map, and only those: at rate 18 on a map of 33 x 33 six taps of
// ten cost nothing, and in dx of a strided convolution each tap sees its own phase alone. Where channels are few, a
// chunk holds several taps and zeros stand for what lies outside. Weights are packed once, into panels of NR columns.
// In dw a range owns a block of output channels, a chunk of (tap, channel), and a part of the pixels where the weights
// are small; parts are added up in order. Where maps are large, all ranges go through one slab of pixels after another.
#include "column_sums.h"
#include "gemm.h"

namespace lacuna::cpu::LACUNA_ISA::conv2d {

using gemm::ceil_div;
using gemm::cut;
using gemm::least;

struct Geometry {
  uint32_t n, height, width, cin, out_height, out_width, cout, kh, kw, stride_h, stride_w, pad_top, pad_left, dilation_h,
      dilation_w, groups;
};
struct ForwardParams {
  Geometry g;
  uint32_t has_bias, has_residual, relu;
};
/** What happens to a sum: y = relu(sum + bias + residual); null, null and false: nothing. */
struct Epilogue {
  const float *bias, *residual;
  bool relu;
};
struct GradWeightParams {
  Geometry g;
  uint32_t rows_per_split, splits;
};

/** Which source pixel a tap of the kernel sees from a pixel of the other map, by row and by column; -1: none. */
struct Maps {
  Maps(const Geometry& g, bool backward)
      : height(backward ? g.height : g.out_height),
        width(backward ? g.width : g.out_width),
        source_height(backward ? g.out_height : g.height),
        source_width(backward ? g.out_width : g.width),
        kh(g.kh),
        kw(g.kw),
        source_channels(backward ? g.cout : g.cin),
        depth(source_channels / g.groups),
        adjacent(!backward && g.dilation_w == 1 && g.groups == 1),
        rows(kh * height),
        columns(kw * width),
        first(width),
        last(width) {
    const auto fill = [backward](const Scratch<int32_t>& map, size_t taps, size_t count, size_t limit, int64_t stride,
                                 int64_t dilation, int64_t padding) {
      for (size_t tap = 0; tap < taps; tap++) {
        const int64_t shift = static_cast<int64_t>(tap) * dilation - padding;
        for (size_t i = 0; i < count; i++) {
          int64_t at = static_cast<int64_t>(i);
          if (backward) {
            at -= shift;
            at = at >= 0 && at % stride == 0 ? at / stride : -1;
          } else {
            at = at * stride + shift;
          }
          map[tap * count + i] = at >= 0 && at < static_cast<int64_t>(limit) ? static_cast<int32_t>(at) : -1;
        }
      }
    };
    fill(rows, kh, height, source_height, g.stride_h, g.dilation_h, g.pad_top);
    fill(columns, kw, width, source_width, g.stride_w, g.dilation_w, g.pad_left);
    for (size_t column = 0; column < width; column++) {
      size_t& low = first[column] = 0;
      while (low < kw && columns[low * width + column] < 0) low++;
      size_t& high = last[column] = kw;
      while (high > low && columns[(high - 1) * width + column] < 0) high--;
    }
    same = kh * kw == 1 && height == source_height && width == source_width && rows[0] == 0 && columns[0] == 0;
  }

  size_t height, width;                // of the map whose pixels are counted
  size_t source_height, source_width;  // of the map that is gathered
  size_t kh, kw;
  size_t source_channels;
  size_t depth;   // channels of a tap in one group
  bool same;      // the one tap of a pixel sees the pixel itself: rows lie ready, there is nothing to gather
  bool adjacent;  // the taps of a row of the kernel see neighbours, whose channels lie in one run
  Scratch<int32_t> rows, columns;
  Scratch<size_t> first, last;  // between these the taps of a row of the kernel see some column, if they are adjacent
};

/** Terms in a row: one tap and some of its channels, or all channels of several taps. */
struct Chunk {
  size_t tap, taps;
  size_t channel;
  size_t begin, count;  // in the order (tap, channel)
};

class Chunks {
 public:
  explicit Chunks(const Maps& maps) : taps_(maps.kh * maps.kw), depth_(maps.depth) {
    const auto inside = [](const Scratch<int32_t>& map, size_t count) {
      size_t sum = 0;
      for (size_t i = 0; i < count; i++) sum += map[i] >= 0;
      return static_cast<double>(sum) / static_cast<double>(count);
    };
    const double met = inside(maps.rows, maps.kh * maps.height) * inside(maps.columns, maps.kw * maps.width);
    // A tap alone costs a pass over the sums for few terms, but only where it meets the map.
    alone_ = depth_ >= gemm::DEPTH / 2 || (depth_ >= 16 && met < 0.7);
    per_tap_ = ceil_div(depth_, gemm::DEPTH);
    count_ = alone_ ? taps_ * per_tap_ : ceil_div(taps_, least(taps_, gemm::DEPTH / depth_));
  }
  size_t count() const { return count_; }
  bool alone() const { return alone_; }
  /** The i-th, those of the middle tap first: it often meets every pixel, whose sums it then sets. */
  Chunk in_turn(size_t i) const {
    const size_t first = alone_ ? taps_ / 2 * per_tap_ : 0;
    return (*this)[first + i < count_ ? first + i : first + i - count_];
  }
  Chunk operator[](size_t i) const {
    if (!alone_) {
      const size_t tap = cut(taps_, count_, i);
      const size_t taps = cut(taps_, count_, i + 1) - tap;
      return {tap, taps, 0, tap * depth_, taps * depth_};
    }
    const size_t tap = i / per_tap_;
    const size_t channel = cut(depth_, per_tap_, i % per_tap_);
    return {tap, 1, channel, tap * depth_ + channel, cut(depth_, per_tap_, i % per_tap_ + 1) - channel};
  }

 private:
  size_t taps_, depth_, per_tap_, count_;
  bool alone_;
};

/** The terms of `taps` taps from tap (y, first) on that a pixel in `row` and `column` sees; zeros outside the map. */
LACUNA_INLINE void gather_taps(const Maps& maps, size_t y, size_t first, size_t taps, const float* image, size_t row,
                               size_t column, float* to) {
  const size_t depth = maps.depth;
  for (; taps > 0; y++, first = 0) {
    const size_t last = least(maps.kw, first + taps);
    taps -= last - first;
    const int32_t from_row = maps.rows[y * maps.height + row];
    const int32_t* columns = maps.columns.data() + column;
    if (from_row < 0) {
      gemm::zero_run(to, (last - first) * depth);
      to += (last - first) * depth;
      continue;
    }
    const float* from = image + static_cast<size_t>(from_row) * maps.source_width * maps.source_channels;
    if (maps.adjacent) {
      const size_t low = least(last, maps.first[column] > first ? maps.first[column] : first);
      const size_t high = maps.last[column] > low ? least(last, maps.last[column]) : low;
      gemm::zero_run(to, (low - first) * depth);
      if (high > low) {
        const size_t at = static_cast<size_t>(columns[low * maps.width]) * depth;
        gemm::copy_run(to + (low - first) * depth, from + at, (high - low) * depth);
      }
      gemm::zero_run(to + (high - first) * depth, (last - high) * depth);
      to += (last - first) * depth;
      continue;
    }
    for (size_t x = first; x < last; x++, to += depth) {
      const int32_t from_column = columns[x * maps.width];
      if (from_column < 0) {
        gemm::zero_run(to, depth);
      } else {
        gemm::copy_run(to, from + static_cast<size_t>(from_column) * maps.source_channels, depth);
      }
    }
  }
}

/**
 * Rows of terms, ROW apart, of pixels from `begin` on: those that the chunk's tap meets in the map, or every one where
 * the chunk holds several taps. `pixels` are theirs. Stops at `end` or at `most` rows and leaves `begin` there.
 */
inline size_t gather(const Maps& maps, const Chunk& chunk, bool alone, const float* source, size_t& begin, size_t end,
                     size_t most, float* to, size_t* pixels) {
  const size_t tap_row = chunk.tap / maps.kw;
  const size_t tap_column = chunk.tap % maps.kw;
  size_t count = 0;
  while (begin < end && count < most) {
    const size_t line = begin / maps.width;
    const size_t first = begin - line * maps.width;
    const size_t last = least(maps.width, first + end - begin);
    const size_t row = line % maps.height;
    const size_t image_size = maps.source_height * maps.source_width * maps.source_channels;
    const float* image = source + line / maps.height * image_size;
    size_t column = first;
    if (!alone) {
      for (; column < last && count < most; column++, count++) {
        pixels[count] = line * maps.width + column;
        gather_taps(maps, tap_row, tap_column, chunk.taps, image, row, column, to + count * gemm::ROW);
      }
    } else if (const int32_t from_row = maps.rows[tap_row * maps.height + row]; from_row < 0) {
      column = last;
    } else {
      const int32_t* columns = maps.columns.data() + tap_column * maps.width;
      const float* from =
          image + static_cast<size_t>(from_row) * maps.source_width * maps.source_channels + chunk.channel;
      for (; column < last && count < most; column++) {
        if (columns[column] < 0) continue;
        pixels[count] = line * maps.width + column;
        gemm::copy_run(to + count * gemm::ROW, from + static_cast<size_t>(columns[column]) * maps.source_channels,
                       chunk.count);
        count++;
      }
    }
    begin += column - first;
  }
  return count;
}

/** Weights as a matrix of terms and columns: where its elements lie. */
struct Weights {
  const float* data;
  size_t columns;  // of one group
  size_t group_step, tap_step, channel_step;
};

/** relu(y + residual) of a run of channels that has its sum. */
LACUNA_INLINE void finish_run(const float* residual, bool relu, float* y, size_t count) {
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) {
    Vec v = load(y + i);
    if (residual) v += load(residual + i);
    store(y + i, relu ? select(v <= Vec{}, Vec{}, v) : v);
  }
  for (; i < count; i++) {
    const float v = residual ? y[i] + residual[i] : y[i];
    y[i] = relu && v <= 0 ? 0 : v;
  }
}

/** y[p, group · columns + j] = relu(bias + Σ over taps and channels of the group + residual) */
inline void product(const Maps& maps, const Weights& w, size_t groups, size_t images, const float* source,
                    const Epilogue& epilogue, float* y) {
  const Chunks chunks(maps);
  const size_t terms = maps.kh * maps.kw * maps.depth;
  const size_t panels = ceil_div(w.columns, gemm::NR);
  const size_t group_size = terms * panels * gemm::NR;
  Scratch<float> packed(groups * group_size);
  // What every pixel starts from: the bias, or zeros.
  Scratch<float> start(groups * panels * gemm::NR);
  gemm::zero_run(start.data(), groups * panels * gemm::NR);
  for (size_t group = 0; epilogue.bias && group < groups; group++) {
    gemm::copy_run(start.data() + group * panels * gemm::NR, epilogue.bias + group * w.columns, w.columns);
  }
  // Terms of a chunk and panel lie together, panel after panel, chunk after chunk.
  parallel_for(groups * chunks.count(), ceil_div(16384, gemm::DEPTH * w.columns), [&](size_t begin, size_t end) {
    for (size_t item = begin; item < end; item++) {
      const size_t group = item / chunks.count();
      const Chunk chunk = chunks[item % chunks.count()];
      float* to = packed.data() + group * group_size + chunk.begin * panels * gemm::NR;
      for (size_t l = 0; l < chunk.count; l++) {
        const size_t tap = chunk.tap + l / maps.depth;
        const size_t channel = chunk.channel + l % maps.depth;
        const float* from = w.data + group * w.group_step + tap * w.tap_step + channel * w.channel_step;
        for (size_t j = 0; j < panels; j++) {
          const size_t width = least(gemm::NR, w.columns - j * gemm::NR);
          float* row = to + (j * chunk.count + l) * gemm::NR;
          gemm::copy_run(row, from + j * gemm::NR, width);
          gemm::zero_run(row + width, gemm::NR - width);
        }
      }
    }
  });

  const size_t pixels = images * maps.height * maps.width;
  const size_t channels = groups * w.columns;
  const size_t blocks = ceil_div(pixels, gemm::BLOCK);
  const size_t columns = gemm::columns_of_block(w.columns, blocks * groups);
  const size_t splits = ceil_div(w.columns, columns);
  const size_t items = blocks * groups * splits;
  parallel_for(items, ceil_div(items, 128), [&](size_t first, size_t last) {
    Scratch<float> rows(gemm::BLOCK * gemm::ROW);
    Scratch<size_t> which(gemm::BLOCK);
    Scratch<float*> targets(gemm::BLOCK);
    for (size_t item = first; item < last; item++) {
      const size_t at = item / splits / groups;
      const size_t group = item / splits % groups;
      const size_t column = item % splits * columns;
      const size_t count = least(columns, w.columns - column);
      const size_t begin = cut(pixels, blocks, at);
      const size_t end = cut(pixels, blocks, at + 1);
      float* corner = y + group * w.columns + column;
      const float* first_sum = start.data() + group * panels * gemm::NR + column;
      for (size_t i = 0; i < chunks.count(); i++) {
        const Chunk chunk = chunks.in_turn(i);
        const float* b = packed.data() + group * group_size + chunk.begin * panels * gemm::NR + column * chunk.count;
        const float* channel = source + group * maps.depth;
        if (maps.same) {
          for (size_t p = begin; p < end; p++) targets[p - begin] = corner + p * channels;
          gemm::block<gemm::ANY>(end - begin, count, chunk.count,
                                 channel + begin * maps.source_channels + chunk.channel, maps.source_channels, b,
                                 chunk.count * gemm::NR, gemm::NR, targets.data(), i == 0 ? first_sum : nullptr);
          continue;
        }
        size_t from = begin;
        const size_t m =
            gather(maps, chunk, chunks.alone(), channel, from, end, gemm::BLOCK, rows.data(), which.data());
        const bool sets = i == 0 && m == end - begin;
        if (i == 0 && !sets) {
          for (size_t p = begin; p < end; p++) gemm::copy_run(corner + p * channels, first_sum, count);
        }
        if (m == 0) continue;
        for (size_t r = 0; r < m; r++) targets[r] = corner + which[r] * channels;
        gemm::block<gemm::ROW>(m, count, chunk.count, rows.data(), 1, b, chunk.count * gemm::NR, gemm::NR,
                               targets.data(), sets ? first_sum : nullptr);
      }
      if (!epilogue.residual && !epilogue.relu) continue;
      for (size_t p = begin; p < end; p++) {  // while they are in the cache
        const size_t from = p * channels + group * w.columns + column;
        finish_run(epilogue.residual ? epilogue.residual + from : nullptr, epilogue.relu, y + from, count);
      }
    }
  });
}

inline void forward(const ForwardParams& p, const Args& a) {
  const Geometry& g = p.g;
  const size_t depth = g.cin / g.groups;
  const size_t columns = g.cout / g.groups;
  const Weights w{a.in(1), columns, columns, depth * g.cout, g.cout};
  product(Maps(g, false), w, g.groups, g.n, a.in(0),
          {p.has_bias ? a.in(2) : nullptr, p.has_residual ? a.in(3) : nullptr, p.relu != 0}, a.out(0));
}

inline void grad_input(const Geometry& g, const Args& a) {
  const size_t columns = g.cin / g.groups;
  const size_t filter = static_cast<size_t>(g.kh) * g.kw * columns;
  const Weights w{a.in(1), columns, g.cout / g.groups * filter, columns, filter};
  product(Maps(g, true), w, g.groups, g.n, a.in(0), {nullptr, nullptr, false}, a.out(0));
}

/** Output channels of a block of dw, and the distance of their rows once gathered. */
inline constexpr size_t CHANNELS = 10 * gemm::MR;
inline constexpr size_t CHANNEL_ROW = CHANNELS + 16;
/** Pixels that a part adds up at least, where dw is made in parts. */
inline constexpr size_t PART_PIXELS = 1024;
/** Elements of x and dy that all tasks go through before the next ones: what the last cache holds. */
inline constexpr size_t SLAB = 1 << 20;

/** partials[split, o, tap, c] = Σ of dy · x over rows_per_split rows of output pixels */
inline void grad_weight(const GradWeightParams& p, const Args& a) {
  const Geometry& g = p.g;
  const float* x = a.in(0);
  const float* dy = a.in(1);
  const Maps maps(g, false);
  const Chunks chunks(maps);
  const size_t terms = maps.kh * maps.kw * maps.depth;
  const size_t size = g.cout * terms;
  const size_t channels = g.cout / g.groups;
  const size_t blocks = ceil_div(channels, CHANNELS);
  const size_t tasks = blocks * g.groups * chunks.count();
  for (size_t split = 0; split < p.splits; split++) {
    const size_t lines = static_cast<size_t>(g.n) * g.out_height;
    const size_t first_pixel = least(lines, split * p.rows_per_split) * g.out_width;
    const size_t pixels = least(lines, (split + 1) * p.rows_per_split) * g.out_width - first_pixel;
    const size_t most = ceil_div(pixels ? pixels : 1, PART_PIXELS);
    const size_t parts = least(most, ceil_div(gemm::ITEMS, tasks));
    float* result = a.out(0) + split * size;
    const size_t slabs = parts > 1 ? 1 : ceil_div((pixels ? pixels : 1) * (g.cin + g.cout), SLAB);
    Scratch<float> partial((parts - 1) * size + 1);
    size_t slab = 0;
    const auto add_tasks = [&](size_t first, size_t last) {
      Scratch<float> right(gemm::DEPTH * gemm::ROW);
      Scratch<float> left(gemm::DEPTH * CHANNEL_ROW);
      Scratch<size_t> which(gemm::DEPTH);
      Scratch<float*> targets(CHANNELS);
      for (size_t item = first; item < last; item++) {
        const size_t part = item / tasks;
        const Chunk chunk = chunks[item % tasks / blocks % chunks.count()];
        const size_t group = item % tasks / blocks / chunks.count();
        const size_t channel = group * channels + cut(channels, blocks, item % blocks);
        const size_t m = group * channels + cut(channels, blocks, item % blocks + 1) - channel;
        float* corner = (part ? partial.data() + (part - 1) * size : result) + channel * terms + chunk.begin;
        for (size_t i = 0; i < m; i++) {
          targets[i] = corner + i * terms;
          if (slab == 0) gemm::zero_run(targets[i], chunk.count);
        }
        size_t begin = first_pixel + cut(pixels, parts * slabs, part + slab);
        const size_t end = first_pixel + cut(pixels, parts * slabs, part + slab + 1);
        while (begin < end) {
          const size_t k = gather(maps, chunk, chunks.alone(), x + group * maps.depth, begin, end, gemm::DEPTH,
                                  right.data(), which.data());
          for (size_t i = 0; i < k; i++) {
            gemm::copy_run(left.data() + i * CHANNEL_ROW, dy + which[i] * g.cout + channel, m);
          }
          gemm::block<1>(m, chunk.count, k, left.data(), CHANNEL_ROW, right.data(), gemm::NR, gemm::ROW,
                         targets.data());
        }
      }
    };
    for (; slab < slabs; slab++) {
      parallel_for(tasks * parts, ceil_div(tasks * parts, 128), add_tasks);
    }
    gemm::add_parts(result, partial.data(), size, parts - 1);
  }
}

struct TransposeParams {
  uint32_t cout, taps;
};

/** wt[tap, o] = w[o, tap]; a range owns some taps, in squares of 16 that stay in the first cache. */
inline void transpose_weight(const TransposeParams& p, const Args& a) {
  const float* w = a.in(0);
  float* wt = a.out(0);
  const size_t cout = p.cout;
  const size_t taps = p.taps;
  parallel_for(ceil_div(taps, 16), ceil_div(16384, 16 * cout), [&](size_t first, size_t last) {
    for (size_t square = first; square < last; square++) {
      const size_t from = square * 16;
      const size_t to = least(taps, from + 16);
      for (size_t o = 0; o < cout; o += 16) {
        const size_t end = least(cout, o + 16);
        for (size_t tap = from; tap < to; tap++) {
          for (size_t i = o; i < end; i++) wt[tap * cout + i] = w[i * taps + tap];
        }
      }
    }
  });
}

struct GradBiasParams {
  uint32_t pixels, cout, pixels_per_split, splits;
};

/** partials[split, o] = Σ dy[p, o] */
inline void grad_bias(const GradBiasParams& p, const Args& a) {
  const size_t cout = p.cout;
  for (size_t split = 0; split < p.splits; split++) {
    const size_t first = least(p.pixels, split * static_cast<size_t>(p.pixels_per_split));
    const size_t pixels = least(p.pixels, (split + 1) * static_cast<size_t>(p.pixels_per_split)) - first;
    float* y = a.out(0) + split * cout;
    column_sums::compute<column_sums::Plain>(a.in(0) + first * cout, 1, pixels * cout, cout,
                                             [y](size_t, size_t o, double sum) { y[o] = static_cast<float>(sum); });
  }
}

struct ReduceParams {
  uint32_t count, splits;
};

/** y[i] = Σ partials[split, i] */
inline void reduce_partials(const ReduceParams& p, const Args& a) {
  float* y = a.out(0);
  column_sums::compute<column_sums::Plain>(a.in(0), 1, size_t{p.splits} * p.count, p.count,
                                           [y](size_t, size_t i, double sum) { y[i] = static_cast<float>(sum); });
}

const Register kernels[] = {
    {"conv2d.transpose_weight", 1, 1, transpose_weight},
    {"conv2d.forward", 4, 1, forward},
    {"conv2d.forward_vec4", 4, 1, forward},
    {"conv2d.grad_input", 2, 1, grad_input},
    {"conv2d.grad_input_vec4", 2, 1, grad_input},
    {"conv2d.grad_weight", 2, 1, grad_weight},
    {"conv2d.grad_weight_vec4", 2, 1, grad_weight},
    {"conv2d.grad_bias", 1, 1, grad_bias},
    {"conv2d.reduce_partials", 1, 1, reduce_partials},
};

}  // namespace lacuna::cpu::LACUNA_ISA::conv2d
