// y[i] = f(x[i]), y[i] = a[i] ∘ b[i] and dx[i] = dy[i] · f'(s[i]). A range owns 16,384 neighbours and runs through them a
// vector at a time: memory sets the pace of all but pow. Broadcasting kernels walk the rows of the last axis, in which
// an operand either runs along or stands still, so that no element costs a division.
#include <cmath>

#include "math.h"
#include "kernel.h"

namespace lacuna::cpu::LACUNA_ISA::elementwise {

inline constexpr size_t GRAIN = 16384;

struct BinaryParams {
  uint32_t count;
};
struct UnaryParams {
  uint32_t count;
  float a, b;
};
struct BroadcastParams {
  uint32_t count;
  uint32_t size[5];      // of axes 1 … 5
  uint32_t stride_a[6];  // of axes 0 … 5; 0 where the operand repeats
  uint32_t stride_b[6];
};

// Each works on vectors and on single floats alike.
struct Add {
  template <class T>
  LACUNA_INLINE T operator()(T a, T b) const { return a + b; }
};
struct Subtract {
  template <class T>
  LACUNA_INLINE T operator()(T a, T b) const { return a - b; }
};
struct Multiply {
  template <class T>
  LACUNA_INLINE T operator()(T a, T b) const { return a * b; }
};
struct Divide {
  template <class T>
  LACUNA_INLINE T operator()(T a, T b) const { return a / b; }
};

/** y[i] = f(i-th vector of the operands), `count` elements; the last vector is partly empty. */
template <class Load, class F>
LACUNA_INLINE void vectors(size_t count, float* y, const Load& load_at, const F& f) {
  size_t i = 0;
  for (; i + LANES <= count; i += LANES) store(y + i, f(load_at(i, LANES)));
  if (i < count) store_part(y + i, f(load_at(i, count - i)), count - i);
}

LACUNA_INLINE Vec load_up_to(const float* p, size_t count) { return count >= LANES ? load(p) : load_part(p, count); }

template <class F>
void binary(const BinaryParams& p, const Args& args) {
  const float *a = args.in(0), *b = args.in(1);
  float* y = args.out(0);
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; i++) y[i] = F()(a[i], b[i]);
  });
}

template <class F>
void broadcast(const BroadcastParams& p, const Args& args) {
  const float *a = args.in(0), *b = args.in(1);
  float* y = args.out(0);
  const size_t width = p.size[4];
  const size_t step_a = p.stride_a[5], step_b = p.stride_b[5];
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    for (size_t at = begin; at < end;) {
      size_t row = at / width;
      const size_t first = at - row * width;
      const size_t last = width < first + (end - at) ? width : first + (end - at);
      size_t from_a = 0, from_b = 0;
      for (int axis = 4; axis > 0; axis--) {
        const size_t size = p.size[axis - 1];
        const size_t index = row % size;
        row /= size;
        from_a += index * p.stride_a[axis];
        from_b += index * p.stride_b[axis];
      }
      const float* u = a + from_a + row * p.stride_a[0];
      const float* v = b + from_b + row * p.stride_b[0];
      float* to = y + at - first;
      if (step_a == 1 && step_b == 0) {
        const float right = *v;
        for (size_t i = first; i < last; i++) to[i] = F()(u[i], right);
      } else if (step_a == 0 && step_b == 1) {
        const float left = *u;
        for (size_t i = first; i < last; i++) to[i] = F()(left, v[i]);
      } else {
        for (size_t i = first; i < last; i++) to[i] = F()(u[i * step_a], v[i * step_b]);
      }
      at += last - first;
    }
  });
}

/** F::apply(x, a, b) on vectors. */
template <class F>
void unary(const UnaryParams& p, const Args& args) {
  const float* x = args.in(0);
  float* y = args.out(0);
  const Vec a = splat(p.a), b = splat(p.b);
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    const float* from = x + begin;
    vectors(
        end - begin, y + begin, [&](size_t i, size_t count) { return load_up_to(from + i, count); },
        [&](Vec v) { return F::apply(v, a, b); });
  });
}

/** dx = dy · F::apply(s, a, b), the slope at what the forward pass saved. */
template <class F>
void backward(const UnaryParams& p, const Args& args) {
  const float *dy = args.in(0), *s = args.in(1);
  float* dx = args.out(0);
  const Vec a = splat(p.a), b = splat(p.b);
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    size_t i = begin;
    for (; i + LANES <= end; i += LANES) store(dx + i, load(dy + i) * F::apply(load(s + i), a, b));
    if (i < end) {
      const size_t rest = end - i;
      store_part(dx + i, load_part(dy + i, rest) * F::apply(load_part(s + i, rest), a, b), rest);
    }
  });
}

LACUNA_INLINE Vec square_root(Vec x) {
  Vec y;
  for (size_t i = 0; i < LANES; i++) y[i] = std::sqrt(x[i]);
  return y;
}

struct Scale {
  static LACUNA_INLINE Vec apply(Vec x, Vec a, Vec) { return a * x; }
};
struct AddScalar {
  static LACUNA_INLINE Vec apply(Vec x, Vec a, Vec) { return x + a; }
};
struct Exponential {
  static LACUNA_INLINE Vec apply(Vec x, Vec, Vec) { return exp(x); }
};
struct Logarithm {
  static LACUNA_INLINE Vec apply(Vec x, Vec, Vec) { return log(x); }
};
struct SquareRoot {
  static LACUNA_INLINE Vec apply(Vec x, Vec, Vec) { return square_root(x); }
};
/** NaN stays NaN: it is neither below nor above. */
struct ClampBetween {
  static LACUNA_INLINE Vec apply(Vec x, Vec a, Vec b) { return select(x < a, a, select(x > b, b, x)); }
};
struct Relu {
  static LACUNA_INLINE Vec apply(Vec x, Vec, Vec) { return select(x < splat(0), splat(0), x); }
};
struct LeakyRelu {
  static LACUNA_INLINE Vec apply(Vec x, Vec a, Vec) { return select(x > splat(0), x, a * x); }
};
struct Sigmoid {
  static LACUNA_INLINE Vec apply(Vec x, Vec, Vec) { return sigmoid(x); }
};
struct Softplus {
  static LACUNA_INLINE Vec apply(Vec x, Vec, Vec) { return softplus(x); }
};
struct HyperbolicTangent {
  static LACUNA_INLINE Vec apply(Vec x, Vec, Vec) { return tanh(x); }
};

struct SquareRootSlope {
  static LACUNA_INLINE Vec apply(Vec y, Vec, Vec) { return select(y > splat(0), splat(0.5f) / y, splat(0)); }
};
struct ClampSlope {
  static LACUNA_INLINE Vec apply(Vec x, Vec a, Vec b) {
    return select(x >= a, select(x <= b, splat(1), splat(0)), splat(0));
  }
};
struct ReluSlope {
  static LACUNA_INLINE Vec apply(Vec y, Vec, Vec) { return select(y > splat(0), splat(1), splat(0)); }
};
struct LeakyReluSlope {
  static LACUNA_INLINE Vec apply(Vec x, Vec a, Vec) { return select(x > splat(0), splat(1), a); }
};
struct SigmoidSlope {
  static LACUNA_INLINE Vec apply(Vec y, Vec, Vec) { return y * (splat(1) - y); }
};
struct HyperbolicTangentSlope {
  static LACUNA_INLINE Vec apply(Vec y, Vec, Vec) { return splat(1) - y * y; }
};

/** x^a: by hand where the exponent is one that networks use, else libm's, which is exact enough for any exponent. */
inline void pow_scalar(const UnaryParams& p, const Args& args) {
  const float* x = args.in(0);
  float* y = args.out(0);
  parallel_for(p.count, GRAIN, [&](size_t begin, size_t end) {
    if (p.a == 2) {
      for (size_t i = begin; i < end; i++) y[i] = x[i] * x[i];
    } else if (p.a == 1) {
      for (size_t i = begin; i < end; i++) y[i] = x[i];
    } else if (p.a == -1) {
      for (size_t i = begin; i < end; i++) y[i] = 1 / x[i];
    } else {
      for (size_t i = begin; i < end; i++) y[i] = std::pow(x[i], p.a);
    }
  });
}

const Register kernels[] = {
    {"elementwise.add", 2, 1, binary<Add>},
    {"elementwise.sub", 2, 1, binary<Subtract>},
    {"elementwise.mul", 2, 1, binary<Multiply>},
    {"elementwise.div", 2, 1, binary<Divide>},
    {"elementwise.add_broadcast", 2, 1, broadcast<Add>},
    {"elementwise.sub_broadcast", 2, 1, broadcast<Subtract>},
    {"elementwise.mul_broadcast", 2, 1, broadcast<Multiply>},
    {"elementwise.div_broadcast", 2, 1, broadcast<Divide>},
    {"elementwise.scale", 1, 1, unary<Scale>},
    {"elementwise.add_scalar", 1, 1, unary<AddScalar>},
    {"elementwise.pow_scalar", 1, 1, pow_scalar},
    {"elementwise.exponential", 1, 1, unary<Exponential>},
    {"elementwise.logarithm", 1, 1, unary<Logarithm>},
    {"elementwise.square_root", 1, 1, unary<SquareRoot>},
    {"elementwise.clamp_between", 1, 1, unary<ClampBetween>},
    {"elementwise.relu", 1, 1, unary<Relu>},
    {"elementwise.leaky_relu", 1, 1, unary<LeakyRelu>},
    {"elementwise.sigmoid", 1, 1, unary<Sigmoid>},
    {"elementwise.softplus", 1, 1, unary<Softplus>},
    {"elementwise.hyperbolic_tangent", 1, 1, unary<HyperbolicTangent>},
    {"elementwise.square_root_backward", 2, 1, backward<SquareRootSlope>},
    {"elementwise.clamp_between_backward", 2, 1, backward<ClampSlope>},
    {"elementwise.relu_backward", 2, 1, backward<ReluSlope>},
    {"elementwise.leaky_relu_backward", 2, 1, backward<LeakyReluSlope>},
    {"elementwise.sigmoid_backward", 2, 1, backward<SigmoidSlope>},
    {"elementwise.softplus_backward", 2, 1, backward<Sigmoid>},
    {"elementwise.hyperbolic_tangent_backward", 2, 1, backward<HyperbolicTangentSlope>},
};

}  // namespace lacuna::cpu::LACUNA_ISA::elementwise
