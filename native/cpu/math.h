// exp, log, log1p, tanh, sigmoid and softplus of vectors, to 2e-7 relative error over the whole range of f32: overflow
// gives infinity, a result below 2^-126 zero, and NaN stays NaN. Polynomials are minimax fits to the reduced range.
#pragma once
#include <limits>

#include "simd.h"

namespace lacuna::cpu::LACUNA_ISA {

inline constexpr float INFINITE = std::numeric_limits<float>::infinity();
inline constexpr float NOT_A_NUMBER = std::numeric_limits<float>::quiet_NaN();

/** e^x = 2^n · e^r with n = round(x / ln 2), |r| <= ln(2) / 2. */
LACUNA_INLINE Vec exp(Vec x) {
  const Vec n = round_nearest(x * splat(1.44269504f));
  // ln 2 in two parts: the first has 9 bits, so that n times it is exact
  Vec r = fma(n, splat(-0.693359375f), x);
  r = fma(n, splat(2.12194440e-4f), r);
  Vec q = fma(splat(0.0013814558f), r, splat(0.00836873613f));
  q = fma(q, r, splat(0.041668389f));
  q = fma(q, r, splat(0.166665211f));
  q = fma(q, r, splat(0.49999994f));
  q = fma(q * r, r, r) + splat(1.0f);
  // n is added to the exponent, which reaches n = 128 (there q < 1), where 2^n has no f32. What wraps is replaced.
  const Vec y = bits<Vec>(bits<UVec>(q) + bits<UVec>(to_int(n) << 23));
  const Vec finite = select(x < splat(-87.3365448f), splat(0.0f), y);
  return select(x <= splat(88.7228394f), finite, x + splat(INFINITE));  // x above: inf, or NaN
}

/** ln(x) plus a small `correction`: x = 2^k · (1 + f) with 1 + f in [√½, √2), and ln(1 + f) = 2 artanh(f / (2 + f)). */
LACUNA_INLINE Vec log_normal(Vec x, Vec exponent, Vec correction) {
  const UVec root = bits<UVec>(splat(0.707106769f));
  const IVec above = bits<IVec>(bits<UVec>(x) - root);
  const Vec k = exponent + to_float(above >> 23);
  const Vec f = bits<Vec>(bits<UVec>(above & 0x007fffff) + root) - splat(1.0f);
  const Vec s = f / (splat(2.0f) + f);
  const Vec z = s * s;
  Vec q = fma(splat(0.298730761f), z, splat(0.399774969f));
  q = fma(q, z, splat(0.666667759f)) * z;
  const Vec half_square = splat(0.5f) * f * f;
  // 2 s + s q = f - (f²/2 - s (f²/2 + q)): f is exact, and what is taken from it small
  const Vec small = fma(s, half_square + q, fma(k, splat(-2.12194440e-4f), correction));
  return fma(k, splat(0.693359375f), f - (half_square - small));
}

/** ln 0 = -inf, ln of a negative number NaN. */
LACUNA_INLINE Vec log(Vec x) {
  const Mask tiny = x < splat(1.17549435e-38f);  // its exponent bits say nothing: scale by 2^23
  const Vec scaled = select(tiny, x * splat(8388608.0f), x);
  const Vec y = log_normal(scaled, select(tiny, splat(-23.0f), splat(0.0f)), splat(0.0f));
  const Vec infinity = splat(INFINITE);
  const Vec edge = select(x == splat(0.0f), -infinity, select(x == infinity, infinity, splat(NOT_A_NUMBER)));
  return select((x > splat(0.0f)) & (x < infinity), y, edge);
}

/** ln(1 + x): ln(u) with u = 1 + x rounded, plus what the rounding lost, over u. */
LACUNA_INLINE Vec log1p(Vec x) {
  const Vec u = splat(1.0f) + x;
  const Vec lost = x - (u - splat(1.0f));
  const Vec y = log_normal(u, splat(0.0f), lost / u);
  const Vec infinity = splat(INFINITE);
  const Vec edge = select(u == splat(0.0f), -infinity, select(x == infinity, infinity, splat(NOT_A_NUMBER)));
  return select((u > splat(0.0f)) & (x < infinity), y, edge);
}

LACUNA_INLINE Vec abs(Vec x) { return bits<Vec>(bits<IVec>(x) & 0x7fffffff); }
LACUNA_INLINE Vec with_sign_of(Vec magnitude, Vec x) {
  return bits<Vec>(bits<IVec>(magnitude) | (bits<IVec>(x) & static_cast<int32_t>(0x80000000)));
}

/** Near 0 an odd polynomial, else (1 - e^-2|x|) / (1 + e^-2|x|). */
LACUNA_INLINE Vec tanh(Vec x) {
  const Vec size = abs(x);
  const Vec z = x * x;
  Vec q = fma(splat(-0.00571703678f), z, splat(0.0206505787f));
  q = fma(q, z, splat(-0.0537434965f));
  q = fma(q, z, splat(0.133314908f));
  q = fma(q, z, splat(-0.333332837f));
  const Vec near = fma(q * z, x, x);
  const Vec e = exp(splat(-2.0f) * size);
  const Vec far = with_sign_of((splat(1.0f) - e) / (splat(1.0f) + e), x);
  return select(size < splat(0.625f), near, far);
}

/** 1 / (1 + e^-x), with the exponential of a number that is not above 0. */
LACUNA_INLINE Vec sigmoid(Vec x) {
  const Vec e = exp(-abs(x));
  return select(x >= splat(0.0f), splat(1.0f), e) / (splat(1.0f) + e);
}

/** ln(1 + e^x) = max(x, 0) + ln(1 + e^-|x|). */
LACUNA_INLINE Vec softplus(Vec x) { return select(x > splat(0.0f), x, splat(0.0f)) + log1p(exp(-abs(x))); }

}  // namespace lacuna::cpu::LACUNA_ISA
