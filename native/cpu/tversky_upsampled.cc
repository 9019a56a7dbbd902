// The fused Tversky loss of logits that are upsampled on the way (tversky.cc has the formulas, bilinear.h the positions).
// A range owns rows of the large map, or small-map rows and all rows of the large map that read them. It keeps the two
// small-map rows around its row turned, one vector row per class, mixes them into one, and makes tiles (tile.h) of LANES
// pixels from that: as the map does not shrink, a class's logits to the left of LANES pixels lie within LANES
// neighbours, and those to the right one further. The gradient of a row, the only thing that is as wide as the large
// map, is gathered across into one of the small map's length, and added to the small-map rows above and below. Rows at
// the ends of a range are computed by both neighbours, so that no two write to one row.
#include <utility>

#include "bilinear.h"
#include "tversky.h"

namespace lacuna::cpu::LACUNA_ISA::tversky_upsampled {

using bilinear::Between;
using tversky::tally;

struct Grid {
  uint32_t images, h, w, classes, out_h, out_w, step_h;
  int32_t offset_h;
  uint32_t scale_h, step_w;
  int32_t offset_w;
  uint32_t scale_w;
};

/** v[index[l]] for every lane l. */
LACUNA_INLINE Vec permute(Vec v, IVec index) {
#if LACUNA_VECTOR_TYPES && defined(__GNUC__) && !defined(__clang__)
  return __builtin_shuffle(v, index);
#else
  float from[LANES], to[LANES];
  int32_t at[LANES];
  store(from, v);
  std::memcpy(at, &index, sizeof(at));
  for (size_t l = 0; l < LANES; l++) to[l] = from[at[l]];
  return load(to);
#endif
}

/** Positions across, of LANES pixels each: the first one's small-map column, how far the others' are from it, weights. */
struct Across {
  size_t low;
  IVec index;
  Vec first, second;
};

/** What all ranges of a call read. */
struct Upsampler {
  const Grid& p;
  const float* logits;
  size_t rows, row_size, tiles;
  Scratch<Across> across;
  Upsampler(const Grid& p, const float* logits)
      : p(p),
        logits(logits),
        rows(size_t{p.images} * p.out_h),
        row_size(size_t{p.out_w} * p.classes),
        tiles((p.out_w + LANES - 1) / LANES),
        across(tiles) {
    for (size_t t = 0; t < tiles; t++) {
      int32_t index[LANES] = {};
      float first[LANES] = {}, second[LANES] = {};  // past the last pixel: a logit of 0
      const size_t low = column(t * LANES).low;
      for (size_t l = 0; l < LANES && t * LANES + l < p.out_w; l++) {
        const Between u = column(t * LANES + l);
        index[l] = static_cast<int32_t>(u.low - low);
        first[l] = u.first;
        second[l] = u.second;
      }
      Across& a = across[t];
      a.low = low;
      std::memcpy(&a.index, index, sizeof(index));
      a.first = load(first);
      a.second = load(second);
    }
  }
  Between column(size_t ox) const { return bilinear::between(ox, p.w, p.step_w, p.offset_w, p.scale_w); }
  Between down(size_t oy) const { return bilinear::between(oy, p.h, p.step_h, p.offset_h, p.scale_h); }
};

/** A range's memory, and the row of the large maps that it holds. */
class Row {
 public:
  explicit Row(const Upsampler& up)
      : up_(up),
        classes_(up.p.classes),
        stride_((up.p.w + 2 * LANES) / LANES * LANES),  // one column more than w, and whole vectors from any of them
        above_(classes_ * stride_),
        below_(classes_ * stride_),
        mixed_(classes_ * stride_ + LANES),
        tile_(classes_ * LANES) {}

  /** Row `row` of the large maps of all images; most times the small-map rows that it needs are there. */
  void load_row(size_t row) {
    const Between v = up_.down(row % up_.p.out_h);
    const size_t map = row / up_.p.out_h * up_.p.h;
    if (map + v.low == below_row_) {
      std::swap(above_at_, below_at_);
      std::swap(above_row_, below_row_);
    }
    if (map + v.low != above_row_) turn(above_row_ = map + v.low, above_at_);
    if (map + v.high != below_row_) turn(below_row_ = map + v.high, below_at_);
    const Vec first = splat(v.first), second = splat(v.second);
    for (size_t i = 0; i < classes_ * stride_; i += LANES) {
      store(mixed_.data() + i, first * load(above_at_ + i) + second * load(below_at_ + i));
    }
  }
  /** Calls f(column, count, tile) for the tiles of that row, which f may write to. */
  template <class F>
  LACUNA_INLINE void each_tile(const F& f) const {
    for (size_t t = 0; t < up_.tiles; t++) {
      const Across a = up_.across[t];
      const float* from = mixed_.data() + a.low;
      for (size_t k = 0; k < classes_; k++, from += stride_) {
        const Vec left = permute(load(from), a.index), right = permute(load(from + 1), a.index);
        store(tile_.data() + k * LANES, a.first * left + a.second * right);
      }
      const size_t column = t * LANES;
      f(column, up_.p.out_w - column < LANES ? up_.p.out_w - column : LANES, tile_.data());
    }
  }

 private:
  /** [w, classes] to [classes, stride]; after a row's end its last logit, and zeros. */
  void turn(size_t row, float* to) const {
    const size_t w = up_.p.w;
    const float* from = up_.logits + row * w * classes_;
    for (size_t x = 0; x < w; x += LANES) {
      load_tile(from + x * classes_, classes_, w - x < LANES ? w - x : LANES, tile_.data());
      for (size_t k = 0; k < classes_; k++) store(to + k * stride_ + x, load(tile_.data() + k * LANES));
    }
    for (size_t k = 0; k < classes_; k++) {
      to[k * stride_ + w] = to[k * stride_ + w - 1];
      for (size_t x = w + 1; x < stride_; x++) to[k * stride_ + x] = 0;
    }
  }

  const Upsampler& up_;
  size_t classes_, stride_;
  Scratch<float> above_, below_, mixed_, tile_;
  float *above_at_ = above_.data(), *below_at_ = below_.data();
  size_t above_row_ = SIZE_MAX, below_row_ = SIZE_MAX;
};

/** Labels of the sigmoid, one per pixel and class: a tile of their bits, those past the pixels -1. */
inline void load_label_tile(const float* labels, size_t classes, size_t count, float* tile) {
  load_tile(labels, classes, count, tile);
  const int32_t none = -1;
  for (size_t k = 0; k < classes; k++) {
    for (size_t l = count; l < LANES; l++) std::memcpy(tile + k * LANES + l, &none, sizeof(none));
  }
}

/** Which pixels of a tile's class are true, and which count at all. */
struct Truth {
  Mask hit, counted;
  Truth(const float* bits_of_labels, uint32_t ignore) {
    const IVec label = bits<IVec>(load(bits_of_labels));
    hit = label == splat_int(1);
    counted = hit | (label == splat_int(0));
    if (ignore == 0) counted = hit;
    if (ignore == 1) counted = label == splat_int(0);
  }
};

void norm_upsampled(const Grid& p, const Args& a) {
  const Upsampler up(p, a.in(0));
  float* norm = a.out(0);
  parallel_for(up.rows, items_in_range(up.rows, up.row_size), [&](size_t begin, size_t end) {
    Row line(up);
    for (size_t row = begin; row < end; row++) {
      line.load_row(row);
      line.each_tile([&](size_t column, size_t count, const float* tile) {
        const Vec largest = largest_of(tile, p.classes);
        Vec total = splat(0.0f);
        for (size_t k = 0; k < p.classes; k++) total += exp(load(tile + k * LANES) - largest);
        float pair[2 * LANES];
        store(pair, largest);
        store(pair + LANES, splat(1.0f) / total);
        store_tile(norm + 2 * (row * p.out_w + column), 2, count, pair);
      });
    }
  });
}

struct SumParams {
  Grid grid;
  uint32_t units, chunks, span, block, ignore, softmax;
};

/** A chunk's share is of whole rows here: which pixels a partial sum has is left to the device. */
void sums_upsampled(const SumParams& all, const Args& a) {
  const Grid& p = all.grid;
  const Upsampler up(p, a.in(0));
  const uint32_t* labels = a.in<uint32_t>(1);
  const float* norm = a.in(2);
  float* partials = a.out(0);
  const size_t classes = p.classes, rows = up.rows / all.units;
  const size_t share = (rows + all.chunks - 1) / all.chunks, parts = size_t{all.units} * all.chunks;
  // f32 lanes add 32 terms, double the rest
  parallel_for(parts, items_in_range(parts, share * up.row_size), [&](size_t first, size_t last) {
    Row line(up);
    Scratch<float> running(classes * 3 * LANES);
    Scratch<float> own_labels(classes * LANES);
    Scratch<double> sums(classes * 3);
    for (size_t part = first; part < last; part++) {
      const size_t begin = part % all.chunks * share < rows ? part % all.chunks * share : rows;
      const size_t end = begin + share < rows ? begin + share : rows;
      for (size_t i = 0; i < classes * 3; i++) sums[i] = 0;
      size_t terms = 0;
      const auto clear = [&] {
        for (size_t i = 0; i < classes * 3 * LANES; i += LANES) store(running.data() + i, splat(0.0f));
        terms = 0;
      };
      const auto add = [&] {
        for (size_t i = 0; i < classes * 3; i++) sums[i] += sum(load(running.data() + i * LANES));
        clear();
      };
      clear();
      for (size_t y = begin; y < end; y++) {
        const size_t row = part / all.chunks * rows + y;
        line.load_row(row);
        line.each_tile([&](size_t column, size_t count, const float* tile) {
          const size_t pixel = row * p.out_w + column;
          if (all.softmax) {
            float pair[2 * LANES];
            load_tile(norm + 2 * pixel, 2, count, pair);
            const IVec label = load_labels(labels + pixel, count, all.ignore);
            const Mask valid = tversky::below(label, p.classes);
            const Vec largest = load(pair), inverse = select(valid, load(pair + LANES), splat(0.0f));
            for (size_t k = 0; k < classes; k++) {
              const Vec e = exp(load(tile + k * LANES) - largest) * inverse;
              tally(running.data() + k * 3 * LANES, e, label == splat_int(static_cast<int32_t>(k)));
            }
          } else {
            load_label_tile(a.in(1) + pixel * classes, classes, count, own_labels.data());
            for (size_t k = 0; k < classes; k++) {
              const Truth y(own_labels.data() + k * LANES, all.ignore);
              const Vec e = select(y.counted, sigmoid(load(tile + k * LANES)), splat(0.0f));
              tally(running.data() + k * 3 * LANES, e, y.hit & y.counted);
            }
          }
          if (++terms == 32) add();
        });
      }
      add();
      for (size_t i = 0; i < classes * 3; i++) partials[part * classes * 3 + i] = static_cast<float>(sums[i]);
    }
  });
}

/** A unit's slopes of true and false pixels, less the first class's of false ones: differences of them keep their digits. */
class Slopes {
 public:
  explicit Slopes(size_t classes) : classes_(classes), hits_(classes), misses_(classes) {}
  void set(const float* slopes, bool centred) {
    if (slopes == set_) return;
    set_ = slopes;
    const float centre = centred ? slopes[1] : 0.0f;
    for (size_t k = 0; k < classes_; k++) {
      hits_[k] = slopes[2 * k] - centre;
      misses_[k] = slopes[2 * k + 1] - centre;
    }
  }
  float hit(size_t k) const { return hits_[k]; }
  float miss(size_t k) const { return misses_[k]; }

 private:
  size_t classes_;
  Scratch<float> hits_, misses_;
  const float* set_ = nullptr;
};

struct MeanParams {
  Grid grid;
  uint32_t units, first_unit, ignore;
};

void mean_upsampled(const MeanParams& all, const Args& a) {
  const Grid& p = all.grid;
  const Upsampler up(p, a.in(0));
  const uint32_t* labels = a.in<uint32_t>(1);
  const float *norm = a.in(2), *slopes = a.in(3);
  float* mean = a.out(0);
  const size_t rows_of_unit = up.rows / all.units;
  parallel_for(up.rows, items_in_range(up.rows, up.row_size), [&](size_t begin, size_t end) {
    Row line(up);
    Slopes g(p.classes);
    for (size_t row = begin; row < end; row++) {
      g.set(slopes + (all.first_unit + row / rows_of_unit) * p.classes * 2, true);
      line.load_row(row);
      line.each_tile([&](size_t column, size_t count, const float* tile) {
        const size_t pixel = row * p.out_w + column;
        float pair[2 * LANES];
        load_tile(norm + 2 * pixel, 2, count, pair);
        const Vec largest = load(pair);
        const IVec label = load_labels(labels + pixel, count, all.ignore);
        Vec own = splat(0.0f);
        for (size_t k = 0; k < p.classes; k++) {
          own = select(label == splat_int(static_cast<int32_t>(k)), splat(g.hit(k)), own);
        }
        const Vec inverse = select(tversky::below(label, p.classes), load(pair + LANES), splat(0.0f));
        Vec average = splat(0.0f), above = splat(0.0f);
        for (size_t k = 0; k < p.classes; k++) {
          const Vec e = exp(load(tile + k * LANES) - largest) * inverse;
          const Vec slope = select(label == splat_int(static_cast<int32_t>(k)), own, splat(g.miss(k)));
          average = fma(e, slope, average);
          above = fma(e, own - slope, above);
        }
        store(pair, average);
        store(pair + LANES, above);
        store_tile(mean + 2 * pixel, 2, count, pair);
      });
    }
  });
}

struct GradParams {
  Grid grid;
  uint32_t units, first_unit, band, ignore, softmax;
};

/** y += factor · x. */
LACUNA_INLINE void add_scaled(const float* x, float factor, size_t count, float* y) {
  const Vec f = splat(factor);
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) store(y + i, fma(f, load(x + i), load(y + i)));
  for (; i < count; i++) y[i] += factor * x[i];
}

void grad_upsampled(const GradParams& all, const Args& a) {
  const Grid& p = all.grid;
  const Upsampler up(p, a.in(0));
  const uint32_t* labels = a.in<uint32_t>(1);
  const float *norm = a.in(2), *mean = a.in(3), *slopes = a.in(4);
  const float dy = a.in(5)[0];
  float* dlogits = a.out(0);
  const size_t classes = p.classes, in_row = size_t{p.w} * classes, row_size = up.row_size;
  const bilinear::Readers down(p.h, p.out_h, p.step_h, p.offset_h, p.scale_h);
  const bilinear::Readers across(p.w, p.out_w, p.step_w, p.offset_w, p.scale_w);
  // Long bands compute fewer rows twice, short ones are work for more threads.
  size_t band = (size_t{p.images} * p.h + 15) / 16;
  band = band < 4 ? 4 : band > 32 ? 32 : band;
  const size_t bands = (p.h + band - 1) / band, per_unit = p.images / all.units;
  parallel_for(p.images * bands, 32768 / (band * in_row) + 1, [&](size_t first, size_t last) {
    Row line(up);
    Slopes g(classes);
    Scratch<float> gradient(row_size), gathered(in_row);
    Scratch<float> own_labels(classes * LANES);
    for (size_t item = first; item < last; item++) {
      const size_t image = item / bands, top = item % bands * band;
      const size_t bottom = top + band < p.h ? top + band : p.h;  // past the band
      float* map = dlogits + image * p.h * in_row;
      std::memset(map + top * in_row, 0, (bottom - top) * in_row * sizeof(float));
      g.set(slopes + (all.first_unit + image / per_unit) * classes * 2, all.softmax);
      const size_t end = down.first[bottom - 1] + down.start[bottom] - down.start[bottom - 1];
      for (size_t oy = down.first[top]; oy < end; oy++) {
        const size_t row = image * p.out_h + oy;
        line.load_row(row);
        line.each_tile([&](size_t column, size_t count, float* tile) {
          const size_t pixel = row * p.out_w + column;
          if (all.softmax) {
            float pair[2 * LANES];
            load_tile(norm + 2 * pixel, 2, count, pair);
            const Vec largest = load(pair), inverse = load(pair + LANES);
            load_tile(mean + 2 * pixel, 2, count, pair);
            const Vec average = load(pair), above = load(pair + LANES);
            const IVec label = load_labels(labels + pixel, count, all.ignore);
            const Vec by = select(tversky::below(label, p.classes), splat(dy) * inverse, splat(0.0f));
            for (size_t k = 0; k < classes; k++) {
              const Mask hit = label == splat_int(static_cast<int32_t>(k));
              const Vec slope = select(hit, above, splat(g.miss(k)) - average);
              store(tile + k * LANES, exp(load(tile + k * LANES) - largest) * by * slope);
            }
          } else {
            load_label_tile(a.in(1) + pixel * classes, classes, count, own_labels.data());
            for (size_t k = 0; k < classes; k++) {
              const Truth y(own_labels.data() + k * LANES, all.ignore);
              const Vec e = exp(-abs(load(tile + k * LANES)));
              const Vec q = splat(1.0f) / (splat(1.0f) + e);
              const Vec slope = select(y.hit, splat(g.hit(k)), splat(g.miss(k)));
              const Vec d = splat(dy) * (e * q * q) * slope;
              store(tile + k * LANES, select(y.counted, d, splat(0.0f)));
            }
          }
          store_tile(gradient.data() + column * classes, classes, count, tile);
        });
        for (size_t s = 0; s < p.w; s++) {
          const uint32_t start = across.start[s];
          const size_t count = across.start[s + 1] - start, from = across.first[s] * classes;
          size_t room = in_row - s * classes;
          const size_t left = row_size - from - (count - 1) * classes;
          if (left < room) room = left;
          bilinear::gather_all(gradient.data() + from, classes, across.weights.data() + start, count, room,
                               gathered.data() + s * classes);
        }
        const Between v = up.down(oy);
        if (v.low >= top && v.low < bottom) add_scaled(gathered.data(), v.first, in_row, map + v.low * in_row);
        if (v.high != v.low && v.high >= top && v.high < bottom) {
          add_scaled(gathered.data(), v.second, in_row, map + v.high * in_row);
        }
      }
    }
  });
}

const Register kernels[] = {
    {"tversky.norm_upsampled", 1, 1, norm_upsampled},
    {"tversky.sums_upsampled", 3, 1, sums_upsampled},
    {"tversky.mean_upsampled", 4, 1, mean_upsampled},
    {"tversky.grad_upsampled", 6, 1, grad_upsampled},
};

}  // namespace lacuna::cpu::LACUNA_ISA::tversky_upsampled
