// y = f(x), y = a op b, dx = dy · f'(s). A range owns 32,768 elements (8,192 where f is a transcendental function): one
// pass at the speed of memory. Comparisons are written so that NaN stays NaN.
#include <cmath>

#include "kernel.h"
#include "math.h"

namespace lacuna::cpu::LACUNA_ISA::elementwise {

constexpr size_t GRAIN = 32768;
constexpr size_t GRAIN_OF_FUNCTIONS = 8192;

struct Count {
  uint32_t count;
};

struct Add {
  template <class T>
  static LACUNA_INLINE T of(T a, T b) { return a + b; }
};
struct Sub {
  template <class T>
  static LACUNA_INLINE T of(T a, T b) { return a - b; }
};
struct Mul {
  template <class T>
  static LACUNA_INLINE T of(T a, T b) { return a * b; }
};
struct Div {
  template <class T>
  static LACUNA_INLINE T of(T a, T b) { return a / b; }
};

/** n neighbours of y; an operand that is `fixed` has one value for all of them. */
template <class Op, bool fixed_a, bool fixed_b>
LACUNA_INLINE void run_of(const float* a, const float* b, float* y, size_t n) {
  const Vec all_a = splat(fixed_a ? *a : 0), all_b = splat(fixed_b ? *b : 0);
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    store(y + i, Op::of(fixed_a ? all_a : load(a + i), fixed_b ? all_b : load(b + i)));
  }
  for (; i < n; i++) y[i] = Op::of(a[fixed_a ? 0 : i], b[fixed_b ? 0 : i]);
}

template <class Op>
void binary(const Count& p, const Args& args) {
  const float* a = args.in(0);
  const float* b = args.in(1);
  float* y = args.out(0);
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    run_of<Op, false, false>(a + begin, b + begin, y + begin, end - begin);
  });
}

struct Broadcast {
  uint32_t count;
  uint32_t size[5];  // of axes 1 … 5; axis 0 is what is left
  uint32_t a[6], b[6];
};

template <class Op>
void run_of_strides(const float* a, size_t step_a, const float* b, size_t step_b, float* y, size_t n) {
  if (step_a == 1 && step_b == 1) run_of<Op, false, false>(a, b, y, n);
  else if (step_a == 1 && step_b == 0) run_of<Op, false, true>(a, b, y, n);
  else if (step_a == 0 && step_b == 1) run_of<Op, true, false>(a, b, y, n);
  else
    for (size_t i = 0; i < n; i++) y[i] = Op::of(a[i * step_a], b[i * step_b]);
}

/** A short row (channels, mostly) against many: repeated until it is long enough for a loop over vectors. */
template <class Op, bool short_a>
void periodic(const float* rows, const float* row, size_t width, float* y, size_t count) {
  const size_t length = (1024 + width - 1) / width * width;
  Scratch<float> repeated(length);
  for (size_t i = 0; i < length; i += width) std::memcpy(repeated.data() + i, row, width * sizeof(float));
  const float* pattern = repeated.data();
  parallel_for(count, GRAIN / length * length, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i += length) {
      const size_t n = i + length < end ? length : end - i;
      if constexpr (short_a) run_of<Op, false, false>(pattern, rows + i, y + i, n);
      else run_of<Op, false, false>(rows + i, pattern, y + i, n);
    }
  });
}

template <class Op>
void broadcast(const Broadcast& p, const Args& args) {
  const float* a = args.in(0);
  const float* b = args.in(1);
  float* y = args.out(0);
  const size_t width = p.size[4];
  const size_t step_a = p.a[5], step_b = p.b[5];
  if (size_t{p.size[3]} * width == p.count && width <= 512 && step_a == 1 && step_b == 1) {
    if (p.a[4] == width && p.b[4] == 0) return periodic<Op, false>(a, b, width, y, p.count);
    if (p.b[4] == width && p.a[4] == 0) return periodic<Op, true>(b, a, width, y, p.count);
  }
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    // Where the range begins: positions along axes 0 … 4, and inside a row.
    size_t at[5];
    size_t row = begin / width, offset = begin % width;
    for (int axis = 4; axis > 0; axis--) {
      at[axis] = row % p.size[axis - 1];
      row /= p.size[axis - 1];
    }
    at[0] = row;
    size_t from_a = 0, from_b = 0;
    for (int axis = 0; axis < 5; axis++) {
      from_a += at[axis] * p.a[axis];
      from_b += at[axis] * p.b[axis];
    }
    for (size_t i = begin; i < end; offset = 0) {
      const size_t n = width - offset < end - i ? width - offset : end - i;
      run_of_strides<Op>(a + from_a + offset * step_a, step_a, b + from_b + offset * step_b, step_b, y + i, n);
      i += n;
      for (int axis = 4; axis >= 0; axis--) {
        from_a += p.a[axis];
        from_b += p.b[axis];
        if (axis == 0 || ++at[axis] < p.size[axis - 1]) break;
        from_a -= at[axis] * p.a[axis];
        from_b -= at[axis] * p.b[axis];
        at[axis] = 0;
      }
    }
  });
}

struct Scalars {
  uint32_t count;
  float a, b;
};

struct Scale {
  static constexpr size_t grain = GRAIN;
  static LACUNA_INLINE Vec of(Vec x, const Scalars& p) { return splat(p.a) * x; }
};
struct AddScalar {
  static constexpr size_t grain = GRAIN;
  static LACUNA_INLINE Vec of(Vec x, const Scalars& p) { return x + splat(p.a); }
};
struct Exp {
  static constexpr size_t grain = GRAIN_OF_FUNCTIONS;
  static LACUNA_INLINE Vec of(Vec x, const Scalars&) { return exp(x); }
};
struct Log {
  static constexpr size_t grain = GRAIN_OF_FUNCTIONS;
  static LACUNA_INLINE Vec of(Vec x, const Scalars&) { return log(x); }
};
struct Clamp {
  static constexpr size_t grain = GRAIN;
  static LACUNA_INLINE Vec of(Vec x, const Scalars& p) {
    const Vec low = splat(p.a), high = splat(p.b);
    const Vec above = select(x < low, low, x);
    return select(above > high, high, above);
  }
};
struct Relu {
  static constexpr size_t grain = GRAIN;
  static LACUNA_INLINE Vec of(Vec x, const Scalars&) { return select(x <= splat(0), splat(0), x); }
};
struct LeakyRelu {
  static constexpr size_t grain = GRAIN;
  static LACUNA_INLINE Vec of(Vec x, const Scalars& p) { return select(x > splat(0), x, splat(p.a) * x); }
};
struct Sigmoid {
  static constexpr size_t grain = GRAIN_OF_FUNCTIONS;
  static LACUNA_INLINE Vec of(Vec x, const Scalars&) { return sigmoid(x); }
};
struct Softplus {
  static constexpr size_t grain = GRAIN_OF_FUNCTIONS;
  static LACUNA_INLINE Vec of(Vec x, const Scalars&) { return softplus(x); }
};
struct Tanh {
  static constexpr size_t grain = GRAIN_OF_FUNCTIONS;
  static LACUNA_INLINE Vec of(Vec x, const Scalars&) { return tanh(x); }
};

template <class F>
void unary(const Scalars& p, const Args& args) {
  const float* x = args.in(0);
  float* y = args.out(0);
  const Scalars scalars = p;
  parallel_for(p.count, F::grain, [=](size_t begin, size_t end) {
    const Scalars own = scalars;  // in registers: what the closure holds might be what y points to
    size_t i = begin;
    for (; i + LANES <= end; i += LANES) store(y + i, F::of(load(x + i), own));
    if (i < end) store_part(y + i, F::of(load_part(x + i, end - i), own), end - i);
  });
}

void square_root(const Scalars& p, const Args& args) {
  const float* x = args.in(0);
  float* y = args.out(0);
  parallel_for(p.count, GRAIN, [=](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) y[i] = std::sqrt(x[i]);
  });
}

// |x|^e = 2^(e log2 |x|) in double, as the product carries the error of the logarithm times e: both series are cut
// where they are right to 1e-10. Without branches, for the compiler to vectorise.

LACUNA_INLINE double log2_of(double size) {
  // size = 2^k m with m in [√½, √2); log2 m = 2/ln 2 artanh((m - 1) / (m + 1))
  const uint64_t root = 0x3fe6a09e667f3bcd;
  const uint64_t above = bits<uint64_t>(size) - root;
  // The exponent as a double: its bits (biased, so that they are positive) under those of 2^52.
  const uint64_t biased = (above + (uint64_t{1024} << 52)) >> 52;
  const double k = bits<double>(biased | 0x4330000000000000) - (4503599627370496.0 + 1024);
  const double m = bits<double>((above & 0x000fffffffffffff) + root);
  const double s = (m - 1) / (m + 1);
  const double z = s * s;
  double q = 1.0 / 13;
  q = q * z + 1.0 / 11;
  q = q * z + 1.0 / 9;
  q = q * z + 1.0 / 7;
  q = q * z + 1.0 / 5;
  q = q * z + 1.0 / 3;
  q = q * z + 1;
  return k + 2.8853900817779268 * s * q;
}

/** 2^t, |t| < 1000. */
LACUNA_INLINE double power_of_2(double t) {
  const double shift = 6755399441055744.0;  // 1.5 · 2^52: the sum ends in the bits of round(t)
  const double shifted = t + shift;
  const double r = (t - (shifted - shift)) * 0.69314718055994531;
  double y = 1.0 / 40320;
  y = y * r + 1.0 / 5040;
  y = y * r + 1.0 / 720;
  y = y * r + 1.0 / 120;
  y = y * r + 1.0 / 24;
  y = y * r + 1.0 / 6;
  y = y * r + 0.5;
  y = y * r + 1;
  y = y * r + 1;
  return bits<double>(bits<uint64_t>(y) + (bits<uint64_t>(shifted) << 52));
}

/** x to a whole power up to 16 by squares: few roundings; NaN, infinities and signs come out by themselves. */
LACUNA_INLINE float whole_power(float x, unsigned e) {
  float y = e & 1 ? x : 1.0f;
  for (unsigned bit = 2; bit <= e; bit *= 2) {
    x *= x;
    if (e & bit) y *= x;
  }
  return y;
}

void pow_scalar(const Scalars& p, const Args& args) {
  const float* x = args.in(0);
  float* y = args.out(0);
  const double e = p.a;
  const auto each = [&](size_t grain, auto f) {
    parallel_for(p.count, grain, [=](size_t begin, size_t end) {
      for (size_t i = begin; i < end; i++) y[i] = f(x[i]);
    });
  };
  if (e == 2) return each(GRAIN, [](float v) { return v * v; });
  if (e == 1) return each(GRAIN, [](float v) { return v; });
  if (e == -1) return each(GRAIN, [](float v) { return 1.0f / v; });
  if (e == 3) return each(GRAIN, [](float v) { return v * v * v; });
  if (e == 0.5) return each(GRAIN, [](float v) { return std::sqrt(v + 0.0f); });  // (-0)^½ is 0
  if (e == 0) return each(GRAIN, [](float) { return 1.0f; });
  const bool whole = e == std::trunc(e);
  if (whole && e > 3 && e <= 16) {
    const unsigned times = static_cast<unsigned>(e);
    return each(GRAIN, [times](float v) { return whole_power(v, times); });
  }
  const bool odd = whole && std::fmod(std::abs(e), 2.0) == 1;
  const float of_zero = e > 0 ? 0 : INFINITE, of_infinity = e > 0 ? INFINITE : 0;
  const float sign = whole ? 1.0f : NOT_A_NUMBER;  // of a negative number's
  parallel_for(p.count, GRAIN_OF_FUNCTIONS, [=](size_t begin, size_t end) {
    // In short loops: a longer one, of doubles, floats and choices, no compiler vectorises.
    constexpr size_t BATCH = 256;
    double t[BATCH];
    float powers[BATCH];
    for (size_t first = begin; first < end; first += BATCH) {
      const size_t n = first + BATCH < end ? BATCH : end - first;
      const float* from = x + first;
      float* to = y + first;
      for (size_t i = 0; i < n; i++) t[i] = e * log2_of(std::abs(static_cast<double>(from[i])));
      for (size_t i = 0; i < n; i++) t[i] = t[i] > 200 ? 200 : t[i];  // beyond what f32 holds: infinity, or 0
      for (size_t i = 0; i < n; i++) t[i] = t[i] < -200 ? -200 : t[i];
      for (size_t i = 0; i < n; i++) powers[i] = static_cast<float>(power_of_2(t[i]));
      for (size_t i = 0; i < n; i++) powers[i] = std::abs(from[i]) == INFINITE ? of_infinity : powers[i];
      for (size_t i = 0; i < n; i++) powers[i] = from[i] == 0 ? of_zero : powers[i];
      for (size_t i = 0; i < n; i++) powers[i] *= from[i] < 0 ? sign : 1.0f;
      if (odd) {  // of -0, too
        for (size_t i = 0; i < n; i++) powers[i] = std::copysign(powers[i], from[i]);
      }
      for (size_t i = 0; i < n; i++) to[i] = from[i] == from[i] ? powers[i] : from[i];
    }
  });
}

struct SquareRootBackward {
  static LACUNA_INLINE Vec of(Vec y, const Scalars&) { return select(y > splat(0), splat(0.5f) / y, splat(0)); }
};
struct ClampBackward {
  static LACUNA_INLINE Vec of(Vec x, const Scalars& p) {
    return select((x >= splat(p.a)) & (x <= splat(p.b)), splat(1), splat(0));
  }
};
struct ReluBackward {
  static LACUNA_INLINE Vec of(Vec y, const Scalars&) { return select(y > splat(0), splat(1), splat(0)); }
};
struct LeakyReluBackward {
  static LACUNA_INLINE Vec of(Vec x, const Scalars& p) { return select(x > splat(0), splat(1), splat(p.a)); }
};
struct SigmoidBackward {
  static LACUNA_INLINE Vec of(Vec y, const Scalars&) { return y * (splat(1) - y); }
};
struct SoftplusBackward {
  static LACUNA_INLINE Vec of(Vec x, const Scalars&) { return sigmoid(x); }
};
struct TanhBackward {
  static LACUNA_INLINE Vec of(Vec y, const Scalars&) { return (splat(1) - y) * (splat(1) + y); }
};

template <class F>
void backward(const Scalars& p, const Args& args) {
  const float* dy = args.in(0);
  const float* s = args.in(1);
  float* dx = args.out(0);
  const Scalars scalars = p;
  parallel_for(p.count, GRAIN, [=](size_t begin, size_t end) {
    const Scalars own = scalars;
    size_t i = begin;
    for (; i + LANES <= end; i += LANES) store(dx + i, load(dy + i) * F::of(load(s + i), own));
    if (i < end) {
      const size_t n = end - i;
      store_part(dx + i, load_part(dy + i, n) * F::of(load_part(s + i, n), own), n);
    }
  });
}

const Register kernels[] = {
    {"elementwise.add", 2, 1, binary<Add>},
    {"elementwise.sub", 2, 1, binary<Sub>},
    {"elementwise.mul", 2, 1, binary<Mul>},
    {"elementwise.div", 2, 1, binary<Div>},
    {"elementwise.add_broadcast", 2, 1, broadcast<Add>},
    {"elementwise.sub_broadcast", 2, 1, broadcast<Sub>},
    {"elementwise.mul_broadcast", 2, 1, broadcast<Mul>},
    {"elementwise.div_broadcast", 2, 1, broadcast<Div>},
    {"elementwise.scale", 1, 1, unary<Scale>},
    {"elementwise.add_scalar", 1, 1, unary<AddScalar>},
    {"elementwise.pow_scalar", 1, 1, pow_scalar},
    {"elementwise.exponential", 1, 1, unary<Exp>},
    {"elementwise.logarithm", 1, 1, unary<Log>},
    {"elementwise.square_root", 1, 1, square_root},
    {"elementwise.clamp_between", 1, 1, unary<Clamp>},
    {"elementwise.relu", 1, 1, unary<Relu>},
    {"elementwise.leaky_relu", 1, 1, unary<LeakyRelu>},
    {"elementwise.sigmoid", 1, 1, unary<Sigmoid>},
    {"elementwise.softplus", 1, 1, unary<Softplus>},
    {"elementwise.hyperbolic_tangent", 1, 1, unary<Tanh>},
    {"elementwise.square_root_backward", 2, 1, backward<SquareRootBackward>},
    {"elementwise.clamp_between_backward", 2, 1, backward<ClampBackward>},
    {"elementwise.relu_backward", 2, 1, backward<ReluBackward>},
    {"elementwise.leaky_relu_backward", 2, 1, backward<LeakyReluBackward>},
    {"elementwise.sigmoid_backward", 2, 1, backward<SigmoidBackward>},
    {"elementwise.softplus_backward", 2, 1, backward<SoftplusBackward>},
    {"elementwise.hyperbolic_tangent_backward", 2, 1, backward<TanhBackward>},
};

}  // namespace lacuna::cpu::LACUNA_ISA::elementwise
