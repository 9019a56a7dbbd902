// Vectors of f32 as wide as the instruction set that this file is compiled for. The op files are compiled once for each
// set (CMakeLists.txt) into a namespace of its own, LACUNA_ISA, so that no inline function of one set can be linked
// into another.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#ifndef LACUNA_ISA
#define LACUNA_ISA portable
#endif

#if defined(_MSC_VER)
#define LACUNA_INLINE __forceinline
#else
#define LACUNA_INLINE inline __attribute__((always_inline))
#endif

namespace lacuna::cpu::LACUNA_ISA {

#if defined(__AVX512F__)
inline constexpr size_t LANES = 16;
#elif defined(__AVX2__)
inline constexpr size_t LANES = 8;
#else
inline constexpr size_t LANES = 4;  // SSE2, NEON, or plain loops
#endif

#if (defined(__GNUC__) || defined(__clang__)) && !defined(LACUNA_NO_VECTOR_TYPES)
#define LACUNA_VECTOR_TYPES 1
#else
#define LACUNA_VECTOR_TYPES 0
#endif
// Whether __builtin_shufflevector is there: clang's, and GCC's from version 12.
#if LACUNA_VECTOR_TYPES && (defined(__clang__) || __GNUC__ >= 12)
#define LACUNA_SHUFFLE 1
#else
#define LACUNA_SHUFFLE 0
#endif

#if LACUNA_VECTOR_TYPES
/** LANES floats; + - * / and comparisons work lane by lane, a comparison gives a Mask of 0 and -1. */
using Vec = float __attribute__((vector_size(LANES * sizeof(float))));
using IVec = int32_t __attribute__((vector_size(LANES * sizeof(int32_t))));
/** For sums that may wrap. */
using UVec = uint32_t __attribute__((vector_size(LANES * sizeof(uint32_t))));
using Mask = IVec;
#else
/** The same for compilers without vector types: loops that they may vectorise. */
template <class T>
struct Lanes {
  T lane[LANES];
  T& operator[](size_t i) { return lane[i]; }
  T operator[](size_t i) const { return lane[i]; }
};
using Vec = Lanes<float>;
using IVec = Lanes<int32_t>;
using UVec = Lanes<uint32_t>;
using Mask = IVec;
#define LACUNA_LANES_OP(op)                                               \
  template <class T>                                                      \
  LACUNA_INLINE Lanes<T> operator op(const Lanes<T>& a, const Lanes<T>& b) { \
    Lanes<T> y;                                                           \
    for (size_t i = 0; i < LANES; i++) y[i] = static_cast<T>(a[i] op b[i]); \
    return y;                                                             \
  }
LACUNA_LANES_OP(+)
LACUNA_LANES_OP(-)
LACUNA_LANES_OP(*)
LACUNA_LANES_OP(/)
#undef LACUNA_LANES_OP
#define LACUNA_LANES_ASSIGN(op)                                            \
  template <class T>                                                       \
  LACUNA_INLINE Lanes<T>& operator op##=(Lanes<T>& a, const Lanes<T>& b) { \
    return a = a op b;                                                     \
  }
LACUNA_LANES_ASSIGN(+)
LACUNA_LANES_ASSIGN(-)
LACUNA_LANES_ASSIGN(*)
LACUNA_LANES_ASSIGN(/)
#undef LACUNA_LANES_ASSIGN
template <class T>
LACUNA_INLINE Lanes<T> operator-(const Lanes<T>& a) {
  Lanes<T> y;
  for (size_t i = 0; i < LANES; i++) y[i] = -a[i];
  return y;
}
#define LACUNA_LANES_BITS(op)                                          \
  LACUNA_INLINE IVec operator op(const IVec& a, const IVec& b) {       \
    IVec y;                                                            \
    for (size_t i = 0; i < LANES; i++) y[i] = a[i] op b[i];            \
    return y;                                                          \
  }                                                                    \
  LACUNA_INLINE IVec operator op(const IVec& a, int b) {               \
    IVec y;                                                            \
    for (size_t i = 0; i < LANES; i++) y[i] = a[i] op b;               \
    return y;                                                          \
  }
LACUNA_LANES_BITS(&)
LACUNA_LANES_BITS(|)
LACUNA_LANES_BITS(^)
LACUNA_LANES_BITS(<<)
LACUNA_LANES_BITS(>>)
#undef LACUNA_LANES_BITS
#define LACUNA_LANES_COMPARE(op)                                      \
  template <class T>                                                  \
  LACUNA_INLINE Mask operator op(const Lanes<T>& a, const Lanes<T>& b) { \
    Mask y;                                                           \
    for (size_t i = 0; i < LANES; i++) y[i] = a[i] op b[i] ? -1 : 0;  \
    return y;                                                         \
  }
LACUNA_LANES_COMPARE(<)
LACUNA_LANES_COMPARE(<=)
LACUNA_LANES_COMPARE(>)
LACUNA_LANES_COMPARE(>=)
LACUNA_LANES_COMPARE(==)
LACUNA_LANES_COMPARE(!=)
#undef LACUNA_LANES_COMPARE
#endif

template <class To, class From>
LACUNA_INLINE To bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

/** Any alignment. */
LACUNA_INLINE Vec load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(Vec));
  return v;
}
LACUNA_INLINE void store(float* p, Vec v) { std::memcpy(p, &v, sizeof(Vec)); }
/** The first `count` lanes; the rest are zero, or stay as they are in memory. */
LACUNA_INLINE Vec load_part(const float* p, size_t count) {
  Vec v{};
  std::memcpy(&v, p, count * sizeof(float));
  return v;
}
LACUNA_INLINE void store_part(float* p, Vec v, size_t count) { std::memcpy(p, &v, count * sizeof(float)); }
LACUNA_INLINE Vec splat(float value) {
#if LACUNA_VECTOR_TYPES
  return value - Vec{};  // compilers make one broadcast of it, of a loop over the lanes they do not
#else
  Vec v;
  for (size_t i = 0; i < LANES; i++) v[i] = value;
  return v;
#endif
}
/** a · b + c, in one rounding where the instruction set has it. */
LACUNA_INLINE Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
/** `yes` where the mask is set. */
LACUNA_INLINE Vec select(Mask mask, Vec yes, Vec no) {
#if LACUNA_VECTOR_TYPES
  return mask ? yes : no;
#else
  Vec y;
  for (size_t i = 0; i < LANES; i++) y[i] = mask[i] ? yes[i] : no[i];
  return y;
#endif
}
LACUNA_INLINE Vec max(Vec a, Vec b) { return select(a > b, a, b); }
LACUNA_INLINE Vec min(Vec a, Vec b) { return select(a < b, a, b); }
/** Nearest whole number, ties to even; exact for |x| < 2^22. */
LACUNA_INLINE Vec round_nearest(Vec x) {
  const Vec shift = splat(12582912.0f);  // 1.5 * 2^23
  return (x + shift) - shift;
}
/** Whole numbers to integers; |x| < 2^22. */
LACUNA_INLINE IVec to_int(Vec x) {
  const UVec offset = bits<UVec>(splat(12582912.0f));
  return bits<IVec>(bits<UVec>(x + splat(12582912.0f)) - offset);
}
LACUNA_INLINE Vec to_float(IVec x) {
#if LACUNA_VECTOR_TYPES
  return __builtin_convertvector(x, Vec);
#else
  Vec y;
  for (size_t i = 0; i < LANES; i++) y[i] = static_cast<float>(x[i]);
  return y;
#endif
}
LACUNA_INLINE IVec splat_int(int32_t value) {
#if LACUNA_VECTOR_TYPES
  return value - IVec{};
#else
  IVec v;
  for (size_t i = 0; i < LANES; i++) v[i] = value;
  return v;
#endif
}
/** The sum of all lanes, in halves: the same order on every call. */
LACUNA_INLINE float sum(Vec v) {
  float lane[LANES];
  std::memcpy(lane, &v, sizeof(v));
  for (size_t half = LANES / 2; half > 0; half /= 2) {
    for (size_t i = 0; i < half; i++) lane[i] += lane[i + half];
  }
  return lane[0];
}

}  // namespace lacuna::cpu::LACUNA_ISA
