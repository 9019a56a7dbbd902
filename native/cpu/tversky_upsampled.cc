// The fused Tversky loss of logits that are upsampled on the way (tversky.cc has the formulas, bilinear.h the positions).
// A range owns rows of the large map, or small-map rows and all rows of the large map that read them. It interpolates
// one row at a time, `[out_w, classes]`, into memory that stays in the first caches: nothing else is as wide. The
// gradient of such a row replaces it, is gathered across into one of the small map's length, and added to the small-map
// rows above and below. Rows at the ends of a range are computed by both neighbours, so that no two write to one row.
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

/** Interpolates rows; one for all ranges of a call. */
struct Upsampler {
  const Grid& p;
  const float* logits;
  Scratch<Between> across;
  Upsampler(const Grid& p, const float* logits) : p(p), logits(logits), across(p.out_w) {
    for (size_t i = 0; i < p.out_w; i++) across[i] = bilinear::between(i, p.w, p.step_w, p.offset_w, p.scale_w);
  }
  size_t rows() const { return size_t{p.images} * p.out_h; }
  size_t row_size() const { return size_t{p.out_w} * p.classes; }
  Between down(size_t oy) const { return bilinear::between(oy, p.h, p.step_h, p.offset_h, p.scale_h); }
};

/** A range's memory: an upsampled row and what comes on the way to it. */
class Row {
 public:
  explicit Row(const Upsampler& up)
      : up_(up), mixed_(size_t{up.p.w} * up.p.classes + LANES), z_(up.row_size()), tile_(up.p.classes * LANES) {
    for (size_t i = 0; i < LANES; i++) mixed_[size_t{up.p.w} * up.p.classes + i] = 0;
  }
  /** Row `row` of the large maps of all images. */
  float* load_row(size_t row) const {
    const Grid& p = up_.p;
    const size_t in_row = size_t{p.w} * p.classes;
    bilinear::resize_row(up_.logits + row / p.out_h * p.h * in_row, in_row, up_.down(row % p.out_h), up_.across.data(),
                         p.out_w, p.classes, mixed_.data(), z_.data());
    return z_.data();
  }
  /** Calls f(column, count, tile) for the tiles of the row loaded last; with `back`, the tile is then its new content. */
  template <bool Back, class F>
  void each_tile(const F& f) const {
    const size_t classes = up_.p.classes;
    for (size_t column = 0; column < up_.p.out_w; column += LANES) {
      const size_t count = up_.p.out_w - column < LANES ? up_.p.out_w - column : LANES;
      float* at = z_.data() + column * classes;
      load_tile(at, classes, count, tile_.data());
      f(column, count, tile_.data());
      if constexpr (Back) store_tile(at, classes, count, tile_.data());
    }
  }

 private:
  const Upsampler& up_;
  Scratch<float> mixed_, z_, tile_;
};

void norm_upsampled(const Grid& p, const Args& a) {
  const Upsampler up(p, a.in(0));
  float* norm = a.out(0);
  parallel_for(up.rows(), items_in_range(up.rows(), up.row_size()), [&](size_t begin, size_t end) {
    const Row line(up);
    for (size_t row = begin; row < end; row++) {
      line.load_row(row);
      line.each_tile<false>([&](size_t column, size_t count, const float* tile) {
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
  const size_t classes = p.classes, rows = up.rows() / all.units;
  const size_t share = (rows + all.chunks - 1) / all.chunks, parts = size_t{all.units} * all.chunks;
  // f32 lanes add 32 terms, double the rest
  parallel_for(parts, items_in_range(parts, share * up.row_size()), [&](size_t first, size_t last) {
    const Row line(up);
    Scratch<float> running(classes * 3 * LANES);
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
        if (all.softmax) {
          for (size_t i = 0; i < classes * 3; i++) sums[i] += sum(load(running.data() + i * LANES));
        } else {
          tversky::add_interleaved(running.data(), classes, sums.data());
        }
        clear();
      };
      clear();
      for (size_t y = begin; y < end; y++) {
        const size_t row = part / all.chunks * rows + y;
        const float* z = line.load_row(row);
        if (all.softmax) {
          line.each_tile<false>([&](size_t column, size_t count, const float* tile) {
            const size_t pixel = row * p.out_w + column;
            float pair[2 * LANES];
            load_tile(norm + 2 * pixel, 2, count, pair);
            const IVec label = load_labels(labels + pixel, count, all.ignore);
            const Mask valid = tversky::below(label, p.classes);
            const Vec largest = load(pair), inverse = select(valid, load(pair + LANES), splat(0.0f));
            for (size_t k = 0; k < classes; k++) {
              const Vec e = exp(load(tile + k * LANES) - largest) * inverse;
              tally(running.data() + k * 3 * LANES, e, label == splat_int(static_cast<int32_t>(k)));
            }
            if (++terms == 32) add();
          });
          continue;
        }
        // `classes` vectors are LANES whole pixels: every row starts with vector 0
        size_t j = 0;
        for (size_t i = 0; i < up.row_size(); i += LANES) {
          const size_t count = up.row_size() - i < LANES ? up.row_size() - i : LANES;
          const IVec label = load_labels(labels + row * up.row_size() + i, count, all.ignore);
          const Mask hit = label == splat_int(1);
          const Mask valid = hit | (label == splat_int(0));
          tally(running.data() + j * 3 * LANES, select(valid, sigmoid(load_some(z + i, count)), splat(0.0f)), hit);
          if (++j == classes) {
            j = 0;
            if (++terms == 32) add();
          }
        }
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
  const size_t rows_of_unit = up.rows() / all.units;
  parallel_for(up.rows(), items_in_range(up.rows(), up.row_size()), [&](size_t begin, size_t end) {
    const Row line(up);
    Slopes g(p.classes);
    for (size_t row = begin; row < end; row++) {
      g.set(slopes + (all.first_unit + row / rows_of_unit) * p.classes * 2, true);
      line.load_row(row);
      line.each_tile<false>([&](size_t column, size_t count, const float* tile) {
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
  const size_t classes = p.classes, in_row = size_t{p.w} * classes, row_size = up.row_size();
  const bilinear::Readers down(p.h, p.out_h, p.step_h, p.offset_h, p.scale_h);
  const bilinear::Readers across(p.w, p.out_w, p.step_w, p.offset_w, p.scale_w);
  // Long bands compute fewer rows twice, short ones are work for more threads.
  size_t band = (size_t{p.images} * p.h + 15) / 16;
  band = band < 4 ? 4 : band > 32 ? 32 : band;
  const size_t bands = (p.h + band - 1) / band, per_unit = p.images / all.units;
  parallel_for(p.images * bands, 32768 / (band * in_row) + 1, [&](size_t first, size_t last) {
    const Row line(up);
    Slopes g(classes);
    Scratch<float> gathered(in_row), repeated(2 * classes * LANES);
    for (size_t item = first; item < last; item++) {
      const size_t image = item / bands, top = item % bands * band;
      const size_t bottom = top + band < p.h ? top + band : p.h;  // past the band
      float* map = dlogits + image * p.h * in_row;
      std::memset(map + top * in_row, 0, (bottom - top) * in_row * sizeof(float));
      g.set(slopes + (all.first_unit + image / per_unit) * classes * 2, all.softmax);
      float *hits = repeated.data(), *misses = hits + classes * LANES;  // slopes of LANES pixels
      for (size_t i = 0; i < classes * LANES; i++) {
        hits[i] = g.hit(i % classes);
        misses[i] = g.miss(i % classes);
      }
      const size_t end = down.first[bottom - 1] + down.start[bottom] - down.start[bottom - 1];
      for (size_t oy = down.first[top]; oy < end; oy++) {
        const size_t row = image * p.out_h + oy;
        float* z = line.load_row(row);
        if (all.softmax) {
          line.each_tile<true>([&](size_t column, size_t count, float* tile) {
            const size_t pixel = row * p.out_w + column;
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
          });
        } else {
          size_t j = 0;
          for (size_t i = 0; i < row_size; i += LANES) {
            const size_t count = row_size - i < LANES ? row_size - i : LANES;
            const IVec label = load_labels(labels + row * row_size + i, count, all.ignore);
            const Mask hit = label == splat_int(1);
            const Vec e = exp(-abs(load_some(z + i, count)));
            const Vec q = splat(1.0f) / (splat(1.0f) + e);
            const Vec slope = select(hit, load(hits + j * LANES), load(misses + j * LANES));
            store_some(z + i, select(hit | (label == splat_int(0)), splat(dy) * (e * q * q) * slope, splat(0.0f)),
                       count);
            if (++j == classes) j = 0;
          }
        }
        for (size_t s = 0; s < p.w; s++) {
          const uint32_t start = across.start[s];
          const size_t count = across.start[s + 1] - start, from = across.first[s] * classes;
          size_t room = in_row - s * classes;
          const size_t left = row_size - from - (count - 1) * classes;
          if (left < room) room = left;
          bilinear::gather_all(z + from, classes, across.weights.data() + start, count, room,
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
