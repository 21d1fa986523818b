// Vectors of L lanes of T on GCC's and Clang's vector extension, and what LRUA needs of them.
//
// Included once by each of cpu/isa_*.cpp, after that file has chosen the instruction set. Everything is in an unnamed
// namespace: were these functions shared between the files, the linker could keep the AVX-512 copy for every machine.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

namespace {

template <class T>
struct Lanes;  // V: vector of T; I: vector of integers of the same width; L: lanes

#define MANNKERN_LANES(T, INT)                                  \
  template <>                                                   \
  struct Lanes<T> {                                             \
    typedef T V __attribute__((vector_size(MANNKERN_BYTES)));   \
    typedef INT I __attribute__((vector_size(MANNKERN_BYTES))); \
    static constexpr int L = MANNKERN_BYTES / sizeof(T);        \
  };
MANNKERN_LANES(float, int32_t)
MANNKERN_LANES(double, int64_t)
#undef MANNKERN_LANES

template <class T>
using Vec = typename Lanes<T>::V;
template <class T>
using IntVec = typename Lanes<T>::I;

template <class T>
inline Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

template <class T>
inline void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}

// f(0), f(1) to f(COUNT - 1), each with its number as a constant: arrays of vectors that f indexes stay in registers.
template <int COUNT, int FIRST = 0, class F>
__attribute__((always_inline)) inline void unrolled(F f) {
  if constexpr (FIRST < COUNT) {
    f(std::integral_constant<int, FIRST>{});
    unrolled<COUNT, FIRST + 1>(f);
  }
}

template <class To, class From>
inline To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "same width");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class At, class V, int... E>
inline V shuffle(V a, V b, std::integer_sequence<int, E...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, At::of(E)...);
#else
  return __builtin_shuffle(a, b, decltype(a < b){At::of(E)...});
#endif
}

// Half a vector from a, half from b.
template <int... E, class Half>
inline auto joined(Half a, Half b, std::integer_sequence<int, E...>) {
  return __builtin_shufflevector(a, b, E...);
}
template <class T>
inline Vec<T> load_halves(const T* a, const T* b) {
  typedef T Half __attribute__((vector_size(MANNKERN_BYTES / 2)));
  Half first, second;
  std::memcpy(&first, a, sizeof first);
  std::memcpy(&second, b, sizeof second);
  return joined(first, second, std::make_integer_sequence<int, Lanes<T>::L>{});
}

// Interleave the low (Half = 0) or high (Half = 1) groups of G lanes within each 128-bit part of a and b.
template <int L, int PerPart, int G, int Half>
struct Unpack {
  static constexpr int of(int e) {
    const int part = e / PerPart * PerPart, within = e % PerPart, pair = within / G;
    return (pair % 2 ? L : 0) + part + Half * (PerPart / 2) + pair / 2 * G + within % G;
  }
};

// Exchange the off-diagonal groups of S lanes of a and b: the two halves of one step of a block transpose.
template <int L, int S, int Half>
struct Exchange {
  static constexpr int of(int e) {
    const bool from_b = (e & S) != 0;
    return Half == 0 ? (from_b ? L + e - S : e) : (from_b ? L + e : e + S);
  }
};

template <class T, int S, int ROWS>
inline void exchange_parts(Vec<T>* row) {
  constexpr int L = Lanes<T>::L;
  using Index = std::make_integer_sequence<int, L>;
  if constexpr (S < ROWS) {
    for (int i = 0; i < ROWS; ++i) {
      if (i & S) continue;
      const Vec<T> a = row[i], b = row[i + S];
      row[i] = shuffle<Exchange<L, S, 0>>(a, b, Index{});
      row[i + S] = shuffle<Exchange<L, S, 1>>(a, b, Index{});
    }
    exchange_parts<T, 2 * S, ROWS>(row);
  }
}

// Transpose L rows of L lanes in registers: unpacks within 128 bits, then exchanges of whole 128-bit parts. With L/2 ROWS,
// the two halves of a row are rows of their own, ROWS apart: what comes out is L rows of ROWS lanes, transposed.
template <class T, int ROWS = Lanes<T>::L>
inline void transpose(Vec<T>* row) {
  constexpr int L = Lanes<T>::L, P = 16 / sizeof(T);
  using Index = std::make_integer_sequence<int, L>;
  for (int q = 0; q < ROWS; q += P) {
    if constexpr (P == 4) {
      const Vec<T> t0 = shuffle<Unpack<L, 4, 1, 0>>(row[q], row[q + 1], Index{});
      const Vec<T> t1 = shuffle<Unpack<L, 4, 1, 1>>(row[q], row[q + 1], Index{});
      const Vec<T> t2 = shuffle<Unpack<L, 4, 1, 0>>(row[q + 2], row[q + 3], Index{});
      const Vec<T> t3 = shuffle<Unpack<L, 4, 1, 1>>(row[q + 2], row[q + 3], Index{});
      row[q] = shuffle<Unpack<L, 4, 2, 0>>(t0, t2, Index{});
      row[q + 1] = shuffle<Unpack<L, 4, 2, 1>>(t0, t2, Index{});
      row[q + 2] = shuffle<Unpack<L, 4, 2, 0>>(t1, t3, Index{});
      row[q + 3] = shuffle<Unpack<L, 4, 2, 1>>(t1, t3, Index{});
    } else {
      const Vec<T> a = row[q], b = row[q + 1];
      row[q] = shuffle<Unpack<L, 2, 1, 0>>(a, b, Index{});
      row[q + 1] = shuffle<Unpack<L, 2, 1, 1>>(a, b, Index{});
    }
  }
  exchange_parts<T, P, ROWS>(row);
}

// Lane e gets lane e + S, around.
template <int L, int S>
struct Rotate {
  static constexpr int of(int e) { return (e + S) % L; }
};

// f over all lanes, the halves first, in lane 0.
template <class T, int S, class F>
inline Vec<T> fold_lanes(Vec<T> v, F f) {
  constexpr int L = Lanes<T>::L;
  if constexpr (S == 0) return v;
  else return fold_lanes<T, S / 2>(f(v, shuffle<Rotate<L, S>>(v, v, std::make_integer_sequence<int, L>{})), f);
}

template <class T>
inline T lane_sum(Vec<T> v) {
  return fold_lanes<T, Lanes<T>::L / 2>(v, [](Vec<T> a, Vec<T> b) { return a + b; })[0];
}

template <class T>
inline T lane_max(Vec<T> v) {
  return fold_lanes<T, Lanes<T>::L / 2>(v, [](Vec<T> a, Vec<T> b) { return a > b ? a : b; })[0];
}

template <class T>
struct Exp;
template <>
struct Exp<float> {
  static constexpr int terms = 7, mantissa = 23;  // Taylor: the remainder at ln(2)/2 is 6e-9
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
  const Vec<T> kept = x == x ? scaled : x;
  return x < C::lowest ? Vec<T>{} : kept;
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

// log(x) of finite x > 0, subnormal numbers too, as an unevaluated sum.
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

// log(x) for x >= 0; -inf at 0, infinity and NaN stay.
template <class T>
inline Vec<T> logarithm(Vec<T> x) {
  const TwoPart<T> log = logarithm_parts<T>(x);
  const Vec<T> finite = x <= std::numeric_limits<T>::max() ? log.high + log.low : x;
  return x > 0 ? finite : (x == 0 ? Vec<T>{} - std::numeric_limits<T>::infinity() : x);
}

// The upper half of the mantissa, so that products of two of them are exact.
template <class T>
inline Vec<T> upper_half(Vec<T> x) {
  constexpr auto kept = ~((decltype(Log<T>::root_half)(1) << (Exp<T>::mantissa + 1) / 2) - 1);
  return bits<Vec<T>>(bits<IntVec<T>>(x) & kept);
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

}  // namespace
