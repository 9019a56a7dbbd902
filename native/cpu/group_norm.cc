// y = (x − mean) / √(var + eps) · gamma + beta, mean and variance those of one image's group of channels.
//
// x is [images, rows, channels]; everything over the map is per image and channel (channels.h), groups are merged on
// [images, channels] alone. Many images run side by side, few are split by rows.
#include <cmath>

#include "channels.h"
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::group_norm {

struct Chunks {
  uint32_t images, rows, channels, chunks, chunk_rows;
};
struct Finish {
  uint32_t images, rows, channels, group_size;
  float eps;
};
struct Map {
  uint32_t images, rows, channels;
};
struct Merge {
  uint32_t outer, terms, channels;
};
struct Groups {
  uint32_t images, rows, channels, group_size;
};

/** Calls f(0) … f(count − 1); a call may split its own work, which runs in parallel where there are few of them. */
template <class F>
void each_item(size_t count, const F& f) {
  if (count < 16) {
    for (size_t i = 0; i < count; i++) f(i);
  } else {
    parallel_for(count, (count + 63) / 64, [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; i++) f(i);
    });
  }
}
/** Calls f(item, image, first row of all, rows) for every chunk of every image. */
template <class F>
void each_chunk(const Chunks& p, const F& f) {
  each_item(size_t{p.images} * p.chunks, [&](size_t item) {
    const size_t image = item / p.chunks;
    const size_t begin = item % p.chunks * p.chunk_rows;
    const size_t end = begin + p.chunk_rows < p.rows ? begin + p.chunk_rows : p.rows;
    f(item, image, image * p.rows + begin, end - begin);
  });
}

void reduce_moments(const Chunks& p, const Args& a) {
  const size_t channels = p.channels;
  each_chunk(p, [&](size_t item, size_t, size_t row, size_t rows) {
    Scratch<double> mean(channels), m2(channels);
    channels::moments(a.in(0) + row * channels, rows, channels, mean.data(), m2.data());
    for (size_t c = 0; c < channels; c++) {
      a.out(0)[item * channels + c] = static_cast<float>(mean[c]);
      a.out(1)[item * channels + c] = static_cast<float>(m2[c]);
    }
  });
}

void merge_moments(const Chunks& p, const Args& a) {
  const size_t channels = p.channels;
  for (size_t n = 0; n < p.images; n++) {
    for (size_t c = 0; c < channels; c++) {
      double before = 0, mean = 0, m2 = 0;
      for (size_t chunk = 0; chunk < p.chunks; chunk++) {
        const size_t left = p.rows - chunk * p.chunk_rows;
        const double count = static_cast<double>(left < p.chunk_rows ? left : p.chunk_rows);
        const size_t at = (n * p.chunks + chunk) * channels + c;
        channels::join(before, mean, m2, count, a.in(0)[at], a.in(1)[at]);
        before += count;
      }
      a.out(0)[n * channels + c] = static_cast<float>(mean);
      a.out(1)[n * channels + c] = static_cast<float>(m2);
    }
  }
}

void finish_moments(const Finish& p, const Args& a) {
  const size_t size = p.group_size;
  const double rows = p.rows;
  for (size_t first = 0; first < size_t{p.images} * p.channels; first += size) {
    double before = 0, mean = 0, m2 = 0;
    for (size_t k = first; k < first + size; k++) {
      channels::join(before, mean, m2, rows, a.in(0)[k], a.in(1)[k]);
      before += rows;
    }
    const double rstd = 1 / std::sqrt(m2 / before + p.eps);
    for (size_t k = first; k < first + size; k++) {
      a.out(0)[k] = static_cast<float>(mean);
      a.out(1)[k] = static_cast<float>(rstd);
    }
  }
}

void normalize(const Map& p, const Args& a) {
  const float *gamma = a.in(1), *beta = a.in(2);
  const size_t channels = p.channels, size = size_t{p.rows} * channels;
  each_item(p.images, [&](size_t n) {
    const float* x = a.in(0) + n * size;
    const float* mean = a.in(3) + n * channels;
    const float* rstd = a.in(4) + n * channels;
    float* y = a.out(0) + n * size;
    Scratch<float> scale(channels);
    for (size_t c = 0; c < channels; c++) scale[c] = rstd[c] * gamma[c];
    channels::each(p.rows, channels, {mean, scale.data(), beta}, [&](auto io, size_t i, const float* const* v) {
      io.store(y + i, fma(io.load(x + i) - io.load(v[0]), io.load(v[1]), io.load(v[2])));
    });
  });
}

void reduce_gradient(const Chunks& p, const Args& a) {
  const size_t channels = p.channels;
  each_chunk(p, [&](size_t item, size_t n, size_t row, size_t rows) {
    const float* x = a.in(0) + row * channels;
    const float* dy = a.in(1) + row * channels;
    const float* mean = a.in(2) + n * channels;
    const float* rstd = a.in(3) + n * channels;
    Scratch<double> result(2 * channels);
    channels::sums<2>(rows, channels, {mean}, result.data(), [&](auto io, size_t i, const float* const* v, Vec* t) {
      t[1] = io.load(dy + i);
      t[0] = t[1] * (io.load(x + i) - io.load(v[0]));
    });
    for (size_t c = 0; c < channels; c++) {
      a.out(0)[item * channels + c] = static_cast<float>(result[c] * rstd[c]);
      a.out(1)[item * channels + c] = static_cast<float>(result[channels + c]);
    }
  });
}

void merge_gradient(const Merge& p, const Args& a) {
  const size_t channels = p.channels;
  for (unsigned k = 0; k < 2; k++) {
    for (size_t n = 0; n < p.outer; n++) {
      for (size_t c = 0; c < channels; c++) {
        double sum = 0;
        for (size_t t = 0; t < p.terms; t++) sum += a.in(k)[(n * p.terms + t) * channels + c];
        a.out(k)[n * channels + c] = static_cast<float>(sum);
      }
    }
  }
}

void group_gradient(const Groups& p, const Args& a) {
  const size_t size = p.group_size;
  const double count = static_cast<double>(p.rows) * p.group_size;
  for (size_t first = 0; first < size_t{p.images} * p.channels; first += size) {
    const float* gamma = a.in(2) + first % p.channels;  // groups divide the channels, so they do not cross images
    double slope = 0, shift = 0;
    for (size_t j = 0; j < size; j++) {
      slope += static_cast<double>(gamma[j]) * a.in(0)[first + j];
      shift += static_cast<double>(gamma[j]) * a.in(1)[first + j];
    }
    for (size_t k = first; k < first + size; k++) {
      a.out(0)[k] = static_cast<float>(slope / count);
      a.out(1)[k] = static_cast<float>(shift / count);
    }
  }
}

/** dx = rstd · (gamma · dy − shift − x̂ · slope), where x̂ = (x − mean) · rstd. */
void grad_input(const Map& p, const Args& a) {
  const float* gamma = a.in(2);
  const size_t channels = p.channels, size = size_t{p.rows} * channels;
  each_item(p.images, [&](size_t n) {
    const float* x = a.in(0) + n * size;
    const float* dy = a.in(1) + n * size;
    const float* mean = a.in(3) + n * channels;
    const float* rstd = a.in(4) + n * channels;
    const float* slope = a.in(5) + n * channels;
    const float* shift = a.in(6) + n * channels;
    float* dx = a.out(0) + n * size;
    Scratch<float> factors(3 * channels);
    for (size_t c = 0; c < channels; c++) {
      factors[c] = rstd[c] * gamma[c];
      factors[channels + c] = rstd[c] * shift[c];
      factors[2 * channels + c] = rstd[c] * rstd[c] * slope[c];
    }
    const float* f = factors.data();
    channels::each(p.rows, channels, {mean, f, f + channels, f + 2 * channels},
                   [&](auto io, size_t i, const float* const* v) {
                     const Vec slope = (io.load(x + i) - io.load(v[0])) * io.load(v[3]);
                     io.store(dx + i, fma(io.load(v[1]), io.load(dy + i), -io.load(v[2])) - slope);
                   });
  });
}

const Register kernels[] = {
    {"group_norm.reduce_moments", 1, 2, reduce_moments},
    {"group_norm.reduce_moments_vec4", 1, 2, reduce_moments},
    {"group_norm.merge_moments", 2, 2, merge_moments},
    {"group_norm.finish_moments", 2, 2, finish_moments},
    {"group_norm.normalize", 5, 1, normalize},
    {"group_norm.normalize_vec4", 5, 1, normalize},
    {"group_norm.reduce_gradient", 4, 2, reduce_gradient},
    {"group_norm.reduce_gradient_vec4", 4, 2, reduce_gradient},
    {"group_norm.merge_gradient", 2, 2, merge_gradient},
    {"group_norm.group_gradient", 3, 2, group_gradient},
    {"group_norm.grad_input", 7, 1, grad_input},
    {"group_norm.grad_input_vec4", 7, 1, grad_input},
};

}  // namespace lacuna::cpu::LACUNA_ISA::group_norm
