// y = f(x), y = a op b, dx = dy f'(s): one pass at the speed of memory (map.h). Comparisons are written so that NaN
// stays NaN.
#include "divide.h"
#include "map.h"

namespace lacuna::cuda::elementwise {

struct Count {
  uint32_t count;
};

struct Add {
  static __device__ __forceinline__ float of(float a, float b) { return a + b; }
};
struct Sub {
  static __device__ __forceinline__ float of(float a, float b) { return a - b; }
};
struct Mul {
  static __device__ __forceinline__ float of(float a, float b) { return a * b; }
};
struct Div {
  static __device__ __forceinline__ float of(float a, float b) { return a / b; }
};

template <class Op, class T>
struct Binary {
  __device__ __forceinline__ T operator()(T a, T b) const { return from_float<T>(Op::of(to_float(a), to_float(b))); }
};

template <class Op>
void binary(const Count& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    map<2>(a, p.count, Arrays<T, T, 2>{{a.in<T>(0), a.in<T>(1)}, a.out<T>(0)}, Binary<Op, T>{});
  });
}

struct Broadcast {
  uint32_t count;
  uint32_t size[5];  // of axes 1 ... 5; axis 0 is what is left
  uint32_t a[6], b[6];
};

/**
 * A thread owns N neighbours along the innermost axis, where an operand goes on by one (a vector of it) or stands
 * still. `size` has the axes' sizes, the last in pieces of N; axes before `first` have one position.
 */
template <class Op, class T, int N>
struct Spread {
  const T *all_a, *all_b;
  T* y;
  Divisor size[5];
  uint32_t step_a[6], step_b[6];
  int first;
  __device__ void operator()(size_t i) const {
    uint32_t left = static_cast<uint32_t>(i);
    size_t at_a = 0, at_b = 0;
#pragma unroll
    for (int axis = 5; axis > 0; axis--) {
      if (axis <= first) break;
      uint32_t at;
      left = size[axis - 1].divide(left, at);
      const size_t unit = axis == 5 ? N : 1;
      at_a += unit * at * step_a[axis];
      at_b += unit * at * step_b[axis];
    }
    // what is left is the position along `first`: axis 0, or the only axis of several positions
    const size_t unit = first == 5 ? N : 1;
    at_a += unit * left * step_a[first];
    at_b += unit * left * step_b[first];
    float a[N], b[N], to[N];
    take(all_a + at_a, step_a[5], a);
    take(all_b + at_b, step_b[5], b);
#pragma unroll
    for (int k = 0; k < N; k++) to[k] = Op::of(a[k], b[k]);
    store_floats<N>(y + i * N, to);
  }
  static __device__ __forceinline__ void take(const T* from, uint32_t step, float (&to)[N]) {
    if (step != 0) return load_floats<N>(from, to);
    const float same = to_float(*from);
#pragma unroll
    for (int k = 0; k < N; k++) to[k] = same;
  }
};

template <class Op, class T, int N>
void spread(const Broadcast& p, const Args& a) {
  Spread<Op, T, N> f{a.in<T>(0), a.in<T>(1), a.out<T>(0), {}, {}, {}, 0};
  uint32_t inner = 1;
  for (int axis = 0; axis < 6; axis++) {
    f.step_a[axis] = p.a[axis];
    f.step_b[axis] = p.b[axis];
    if (axis > 0) {
      f.size[axis - 1] = Divisor(axis == 5 ? p.size[4] / N : p.size[axis - 1]);
      inner *= p.size[axis - 1];
    }
  }
  if (p.count == inner) {  // one position along axis 0: the outermost of more needs no division
    f.first = 1;
    while (f.first < 5 && p.size[f.first - 1] == 1) f.first++;
  }
  each(a, p.count / N, f);
}

template <class Op>
void broadcast(const Broadcast& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    constexpr int N = WIDE<T>;
    bool wide = in_vectors<N>(p.size[4], a.in<T>(0), a.in<T>(1), a.out<T>(0));
    for (int axis = 0; axis < 5; axis++) {
      // an operand that stands still is read element by element, from anywhere
      wide = wide && (p.a[5] == 0 || p.a[axis] % N == 0) && (p.b[5] == 0 || p.b[axis] % N == 0);
    }
    if (wide) {
      spread<Op, T, N>(p, a);
    } else {
      spread<Op, T, 1>(p, a);
    }
  });
}

struct Scalars {
  uint32_t count;
  float a, b;
};

/** 1 / (1 + e^-x) without an e^x that is infinite. */
__device__ __forceinline__ float logistic(float x) {
  const float small = expf(-fabsf(x));
  return (x < 0 ? small : 1.0f) / (1.0f + small);
}

struct Scale {
  static __device__ __forceinline__ float of(float x, const Scalars& p) { return p.a * x; }
};
struct AddScalar {
  static __device__ __forceinline__ float of(float x, const Scalars& p) { return x + p.a; }
};
struct Exp {
  static __device__ __forceinline__ float of(float x, const Scalars&) { return expf(x); }
};
struct Log {
  static __device__ __forceinline__ float of(float x, const Scalars&) { return logf(x); }
};
struct SquareRoot {
  static __device__ __forceinline__ float of(float x, const Scalars&) { return sqrtf(x); }
};
struct Clamp {
  static __device__ __forceinline__ float of(float x, const Scalars& p) {
    const float above = x < p.a ? p.a : x;
    return above > p.b ? p.b : above;
  }
};
struct Relu {
  static __device__ __forceinline__ float of(float x, const Scalars&) { return x <= 0 ? 0.0f : x; }
};
struct LeakyRelu {
  static __device__ __forceinline__ float of(float x, const Scalars& p) { return x > 0 ? x : p.a * x; }
};
struct Sigmoid {
  static __device__ __forceinline__ float of(float x, const Scalars&) { return logistic(x); }
};
struct Softplus {
  static __device__ __forceinline__ float of(float x, const Scalars&) {
    return (x <= 0 ? 0.0f : x) + log1pf(expf(-fabsf(x)));
  }
};
struct Tanh {
  static __device__ __forceinline__ float of(float x, const Scalars&) { return tanhf(x); }
};
struct Pow {
  static __device__ __forceinline__ float of(float x, const Scalars& p) { return powf(x, p.a); }
};
// Powers that are in use, without the hundred instructions of powf.
struct Square {
  static __device__ __forceinline__ float of(float x, const Scalars&) { return x * x; }
};
struct Cube {
  static __device__ __forceinline__ float of(float x, const Scalars&) { return x * x * x; }
};
struct Reciprocal {
  static __device__ __forceinline__ float of(float x, const Scalars&) { return 1.0f / x; }
};

template <class Op, class T>
struct Unary {
  Scalars p;
  __device__ __forceinline__ T operator()(T x) const { return from_float<T>(Op::of(to_float(x), p)); }
};

template <class Op>
void unary(const Scalars& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    map<1>(a, p.count, Arrays<T, T, 1>{{a.in<T>(0)}, a.out<T>(0)}, Unary<Op, T>{p});
  });
}

void pow_scalar(const Scalars& p, const Args& a) {
  if (p.a == 2) return unary<Square>(p, a);
  if (p.a == 3) return unary<Cube>(p, a);
  if (p.a == -1) return unary<Reciprocal>(p, a);
  unary<Pow>(p, a);
}

struct SquareRootBackward {
  static __device__ __forceinline__ float of(float y, const Scalars&) { return y > 0 ? 0.5f / y : 0.0f; }
};
struct ClampBackward {
  static __device__ __forceinline__ float of(float x, const Scalars& p) { return x >= p.a && x <= p.b ? 1.0f : 0.0f; }
};
struct ReluBackward {
  static __device__ __forceinline__ float of(float y, const Scalars&) { return y > 0 ? 1.0f : 0.0f; }
};
struct LeakyReluBackward {
  static __device__ __forceinline__ float of(float x, const Scalars& p) { return x > 0 ? 1.0f : p.a; }
};
struct SigmoidBackward {
  static __device__ __forceinline__ float of(float y, const Scalars&) { return y * (1.0f - y); }
};
struct TanhBackward {
  static __device__ __forceinline__ float of(float y, const Scalars&) { return (1.0f - y) * (1.0f + y); }
};

template <class Op, class T>
struct Backward {
  Scalars p;
  __device__ __forceinline__ T operator()(T dy, T s) const {
    return from_float<T>(to_float(dy) * Op::of(to_float(s), p));
  }
};

template <class Op>
void backward(const Scalars& p, const Args& a) {
  with_type(a.out_type(0), [&](auto t) {
    using T = decltype(t);
    map<2>(a, p.count, Arrays<T, T, 2>{{a.in<T>(0), a.in<T>(1)}, a.out<T>(0)}, Backward<Op, T>{p});
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
    {"elementwise.square_root", 1, 1, unary<SquareRoot>},
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
    {"elementwise.softplus_backward", 2, 1, backward<Sigmoid>},
    {"elementwise.hyperbolic_tangent_backward", 2, 1, backward<TanhBackward>},
};

}  // namespace lacuna::cuda::elementwise
