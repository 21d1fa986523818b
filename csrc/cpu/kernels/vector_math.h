// Elementary functions of vectors: exp, log, power, tanh, each with its error, and square roots of numbers.
//
// Written out rather than called, because a row of N weights needs N of them at each step and a library's take one
// number.
#pragma once

#include "vector.h"

namespace {

template <class T>
struct Exp;
template <>
struct Exp<float> {
  static constexpr int terms = 7, mantissa = 23;  // of the Taylor series, whose remainder at ln(2)/2 is 6e-9
  static constexpr float lowest = -86.f, shifter = 12582912.f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
};
template <>
struct Exp<double> {
  static constexpr int terms = 13, mantissa = 52;  // the remainder is 4e-18
  static constexpr double lowest = -707., shifter = 6755399441055744., ln2_high = 6.93147180369123816490e-01,
                          ln2_low = 1.90821492927058770002e-10;
};

// exp(x) for x <= 0; 0 below Exp<T>::lowest, where the result would be subnormal; NaN stays NaN.
template <class T>
inline Vec<T> exp_nonpositive(Vec<T> x) {
  using C = Exp<T>;
  const Vec<T> shifted = x * T(1.4426950408889634074) + C::shifter;  // its low bits are round(x / ln 2)
  const Vec<T> n = shifted - C::shifter;
  const Vec<T> r = (x - n * C::ln2_high) - n * C::ln2_low;
  T factorial = 1;
  for (int k = 2; k <= C::terms; ++k) factorial *= k;
  Vec<T> sum = Vec<T>{} + 1 / factorial;
  for (int k = C::terms; k > 0; --k) {
    factorial /= k;
    sum = sum * r + 1 / factorial;
  }
  const Vec<T> scaled = bits<Vec<T>>(bits<IntVec<T>>(sum) + (bits<IntVec<T>>(shifted) << C::mantissa));
  const Vec<T> or_nan = x == x ? scaled : x;
  return x < C::lowest ? Vec<T>{} : or_nan;
}

template <class T>
struct Log;
template <>
struct Log<float> {
  static constexpr int terms = 5;  // of the series in s^2 <= 0.0295; the remainder is 2e-9
  static constexpr float smallest = 1.17549435e-38f, scale = 16777216.f, scale_log2 = 24.f;
  static constexpr int32_t root_half = 0x3f3504f3;
};
template <>
struct Log<double> {
  static constexpr int terms = 11;  // the remainder is 2e-17
  static constexpr double smallest = 2.2250738585072014e-308, scale = 18014398509481984., scale_log2 = 54.;
  static constexpr int64_t root_half = 0x3fe6a09e667f3bcdLL;
};

// log(x) of a finite x > 0, subnormal or not, as a sum of two parts: more digits than one T holds.
template <class T>
struct TwoPart {
  Vec<T> high, low;
};
template <class T>
inline TwoPart<T> logarithm_parts(Vec<T> x) {
  using C = Log<T>;
  using I = IntVec<T>;
  constexpr int mantissa = Exp<T>::mantissa;
  const Vec<T> normal = x < C::smallest ? x * C::scale : x;
  const I above = bits<I>(normal) - C::root_half, n = above >> mantissa;
  const Vec<T> f = bits<Vec<T>>(bits<I>(normal) - (n << mantissa)) - 1;  // in [sqrt(1/2) - 1, sqrt(2) - 1]
  const Vec<T> s = f / (2 + f), z = s * s, half = T(0.5) * f * f;
  Vec<T> series = Vec<T>{} + T(2) / (2 * C::terms + 1);
  for (int k = C::terms - 1; k > 0; --k) series = series * z + T(2) / (2 * k + 1);
  const Vec<T> bend = half - s * (half + z * series);  // f - log(1 + f), small beside f
  const Vec<T> e = __builtin_convertvector(n, Vec<T>) - (x < C::smallest ? Vec<T>{} + C::scale_log2 : Vec<T>{});
  const Vec<T> near = f - bend, whole = e * Exp<T>::ln2_high, high = whole + near;
  return {high, ((whole - high) + near) + ((f - near) - bend) + e * Exp<T>::ln2_low};
}

// log(x) for x >= 0; -inf at 0; infinity and NaN stay.
template <class T>
inline Vec<T> logarithm(Vec<T> x) {
  const TwoPart<T> log = logarithm_parts<T>(x);
  const Vec<T> finite = x <= std::numeric_limits<T>::max() ? log.high + log.low : x;
  return x > 0 ? finite : (x == 0 ? Vec<T>{} - std::numeric_limits<T>::infinity() : x);
}

// x with only the upper half of its mantissa, so that a product of two such numbers is exact.
template <class T>
inline Vec<T> upper_half(Vec<T> x) {
  constexpr auto mask = ~((decltype(Log<T>::root_half)(1) << (Exp<T>::mantissa + 1) / 2) - 1);
  return bits<Vec<T>>(bits<IntVec<T>>(x) & mask);
}

// x^e for x in [0,1] and e >= 0, with 0^0 = 1. The exponent e log(x) is kept in two parts: its rounding alone would
// cost e |log(x)| units in the last place.
template <class T>
inline Vec<T> power_below_one(Vec<T> x, T e) {
  const TwoPart<T> log = logarithm_parts<T>(x > 0 ? x : Vec<T>{} + T(1));
  const Vec<T> E = Vec<T>{} + e, e1 = upper_half<T>(E), e2 = E - e1, l1 = upper_half<T>(log.high), l2 = log.high - l1;
  const Vec<T> z = E * log.high, rest = (((e1 * l1 - z) + e1 * l2 + e2 * l1) + e2 * l2) + E * log.low;
  const Vec<T> base = exp_nonpositive<T>(z), power = base + base * rest;
  return x > 0 ? power : Vec<T>{} + T(e == 0);
}

// log(1 + e) for e in [0,1], accurate to the last bits for a small e too.
template <class T>
inline Vec<T> log_above_one(Vec<T> e) {
  const Vec<T> above = 1 + e, rounded = above - 1;
  return rounded > 0 ? logarithm<T>(above) * (e / rounded) : e;
}

inline Vec<float> tanh(Vec<float> x) {
  const Vec<float> e = exp_nonpositive<float>(x > 0 ? -2 * x : 2 * x), far = (1 - e) / (1 + e), s = x * x;
  // near 0 the quotient would cancel, so there it is a Taylor series, whose remainder at 1/4 is 1e-8 of the value
  const Vec<float> near = x * (1 + s * (-1 / 3.f + s * (2 / 15.f + s * (-17 / 315.f + s * (62 / 2835.f)))));
  return s < 0.0625f ? near : (x > 0 ? far : -far);
}

inline Vec<double> tanh(Vec<double> x) {
  for (int e = 0; e < Lanes<double>::L; ++e) x[e] = __builtin_tanh(x[e]);
  return x;
}

inline float square_root(float x) { return __builtin_sqrtf(x); }
inline double square_root(double x) { return __builtin_sqrt(x); }

// The functions that row_math.h's activations are made of, of a number and of a vector.
template <class T>
struct ScalarMath {
  using Number = T;
  static float exp_nonpositive(float x) { return __builtin_expf(x); }
  static double exp_nonpositive(double x) { return __builtin_exp(x); }
  static T log1p_exp(T x) { return T(__builtin_log1p(__builtin_exp(x))); }  // log(1 + exp(x)) for x <= 0
  static T expm1(T x) { return T(__builtin_expm1(x)); }                     // exp(x) - 1
};
template <class T>
struct VectorMath {
  using Number = T;
  static Vec<T> exp_nonpositive(Vec<T> x) { return ::exp_nonpositive<T>(x); }
  static Vec<T> log1p_exp(Vec<T> x) { return log_above_one<T>(::exp_nonpositive<T>(x)); }
};

}  // namespace
