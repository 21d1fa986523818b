// Vectors of L lanes of T, on the vector extension of GCC and Clang: loads, shuffles, transposes, sums over lanes.
//
// Each isa_*.cpp chooses its instruction set and then includes this file and all other kernel headers, once. Everything
// in them is in an unnamed namespace. Otherwise the linker would keep one copy of each function for all of them, and
// that could be the AVX-512 one.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace {

template <class T>
struct Lanes;  // V: a vector of T; I: a vector of integers as wide as T; L: its number of lanes

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

// Calls f(0), f(1) to f(COUNT - 1), each number a compile-time constant: an array of vectors that f indexes stays in
// registers.
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

// Joins two half vectors; load_halves loads one from a and one from b.
template <int... E, class Half>
inline auto joined(Half a, Half b, std::integer_sequence<int, E...>) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, E...);
#else
  typedef decltype(a[0] + a[0]) Number;
  typedef Number Whole __attribute__((vector_size(2 * sizeof(Half))));
  Whole both;
  std::memcpy(&both, &a, sizeof a);
  std::memcpy(reinterpret_cast<char*>(&both) + sizeof a, &b, sizeof b);
  return both;
#endif
}
template <class T>
inline Vec<T> load_halves(const T* a, const T* b) {
  typedef T Half __attribute__((vector_size(MANNKERN_BYTES / 2)));
  Half first, second;
  std::memcpy(&first, a, sizeof first);
  std::memcpy(&second, b, sizeof second);
  return joined(first, second, std::make_integer_sequence<int, Lanes<T>::L>{});
}

// Lane order that interleaves the low (Half = 0) or high (Half = 1) groups of G lanes within each 128-bit part of a and
// b.
template <int L, int PerPart, int G, int Half>
struct Unpack {
  static constexpr int of(int e) {
    const int part = e / PerPart * PerPart, within = e % PerPart, pair = within / G;
    return (pair % 2 ? L : 0) + part + Half * (PerPart / 2) + pair / 2 * G + within % G;
  }
};

// Lane order that exchanges the off-diagonal groups of S lanes of a and b: the two halves of one step of a block
// transpose.
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

// Transposes L rows of L lanes in registers: unpacks within 128 bits, then exchanges whole 128-bit parts. With ROWS =
// L/2 each vector holds two half rows, which belong ROWS rows apart: the result is the transpose of L rows of L/2
// lanes.
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

// Lane order that rotates: lane e gets lane (e + S) mod L.
template <int L, int S>
struct Rotate {
  static constexpr int of(int e) { return (e + S) % L; }
};

// Combines all lanes by f, halves first; the result is in lane 0.
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

template <class T, int S = Lanes<T>::L / 2>
inline auto lane_min(IntVec<T> v) {
  constexpr int L = Lanes<T>::L;
  if constexpr (S == 0) {
    return v[0];
  } else {
    const IntVec<T> other = shuffle<Rotate<L, S>>(v, v, std::make_integer_sequence<int, L>{});
    return lane_min<T, S / 2>(v < other ? v : other);
  }
}

// The last, partial vector of a row: copied before f, and back afterwards where f may write the row.
template <class T, class P>
struct Tail {
  P row;
  int64_t count;
  T lane[Lanes<T>::L];
  // a condition in every lane becomes a masked move; a memcpy of few numbers would be a call
  Tail(P p, int64_t n) : row(p), count(n) {
    for (int e = 0; e < Lanes<T>::L; ++e) lane[e] = e < count ? row[e] : T(0);
  }
  void write_back() {
    if constexpr (!std::is_const_v<std::remove_pointer_t<P>>)
      for (int e = 0; e < Lanes<T>::L; ++e)
        if (e < count) row[e] = lane[e];
  }
};

// Calls f with pointers to vectors until `count` numbers from each pointer are done.
template <class T, class F, class... P>
void for_lanes(int64_t count, F f, P... rows) {
  constexpr int L = Lanes<T>::L;
  int64_t i = 0;
  for (; i + L <= count; i += L) f((rows + i)...);
  if (i == count) return;
  [&](auto... tails) {
    f(tails.lane...);
    (tails.write_back(), ...);
  }(Tail<T, P>(rows + i, count - i)...);
}

}  // namespace
