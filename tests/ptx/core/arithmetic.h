// Arithmetic and comparisons, lane by lane.
#pragma once

#include <cfenv>
#include <cmath>
#include <limits>
#include <type_traits>

#include "machine.h"

namespace ptx {

inline u32 bits_of(float x) {
  u32 bits;
  memcpy(&bits, &x, 4);
  return bits;
}
inline float float_of(u32 bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

template <class T, class F>
void unary(Warp& w, const Instruction& i, u32 mask) {
  T *a = values<T>(w, i.s[0]), *d = values<T>(w, i.d[0]);
  each_lane(mask, [&](int l) { d[l] = F()(a[l]); });
  follow_sources(w, i, mask);
}

template <class T, class F, class U = T>
void binary(Warp& w, const Instruction& i, u32 mask) {
  T *a = values<T>(w, i.s[0]), *d = values<T>(w, i.d[0]);
  U* b = values<U>(w, i.s[1]);
  each_lane(mask, [&](int l) { d[l] = F()(a[l], b[l]); });
  follow_sources(w, i, mask);
}

template <class T, class F>
void ternary(Warp& w, const Instruction& i, u32 mask) {
  T *a = values<T>(w, i.s[0]), *b = values<T>(w, i.s[1]), *c = values<T>(w, i.s[2]), *d = values<T>(w, i.d[0]);
  each_lane(mask, [&](int l) { d[l] = F()(a[l], b[l], c[l]); });
  follow_sources(w, i, mask);
}

template <class T, class Long>
void multiply_wide(Warp& w, const Instruction& i, u32 mask) {
  T *a = values<T>(w, i.s[0]), *b = values<T>(w, i.s[1]);
  Long *c = i.num_sources > 2 ? values<Long>(w, i.s[2]) : nullptr, *d = values<Long>(w, i.d[0]);
  each_lane(mask, [&](int l) { d[l] = Long(a[l]) * Long(b[l]) + (c ? c[l] : 0); });
  follow_sources(w, i, mask);
}

// Of two float32 in 64 bits.
template <class F>
struct Pair {
  template <class... U>
  u64 operator()(U... x) const {
    return of(u32(x)...) | u64(of(u32(x >> 32)...)) << 32;
  }
  template <class... U>
  static u32 of(U... bits) {
    return bits_of(F()(float_of(bits)...));
  }
};

// A second result has the opposite.
template <class T, class F>
void compare(Warp& w, const Instruction& i, u32 mask) {
  T *a = values<T>(w, i.s[0]), *b = values<T>(w, i.s[1]);
  u32 bits = 0;
  for (int l = 0; l < kLanes; ++l) bits |= u32(F()(a[l], b[l])) << l;
  set_predicate(w, i.d[0], mask, bits);
  if (i.num_results > 1) set_predicate(w, i.d[1], mask, ~bits);
  follow_sources(w, i, mask);
}

// Of 16-bit halves: the low ones to the first result, the high ones to the second.
template <class F>
void compare_halves(Warp& w, const Instruction& i, u32 mask) {
  u32 *a = values<u32>(w, i.s[0]), *b = values<u32>(w, i.s[1]);
  for (int k = 0; k < i.num_results; ++k) {
    u32 bits = 0;
    for (int l = 0; l < kLanes; ++l) bits |= u32(F()(u16(a[l] >> (16 * k)), u16(b[l] >> (16 * k)))) << l;
    set_predicate(w, i.d[k], mask, bits);
  }
  follow_sources(w, i, mask);
}

template <class T>
void select(Warp& w, const Instruction& i, u32 mask) {
  T *a = values<T>(w, i.s[0]), *b = values<T>(w, i.s[1]), *d = values<T>(w, i.d[0]);
  const u32 chosen = predicate(w, i.s[2]);
  const u32 bits = (undefined(w, i.s[0]) & chosen) | (undefined(w, i.s[1]) & ~chosen) | undefined(w, i.s[2]);
  each_lane(mask, [&](int l) { d[l] = has(chosen, l) ? a[l] : b[l]; });
  set_undefined(w, i.d[0], mask, bits);
}

template <class F>
void on_predicates(Warp& w, const Instruction& i, u32 mask) {
  set_predicate(w, i.d[0], mask, F()(predicate(w, i.s[0]), i.num_sources > 1 ? predicate(w, i.s[1]) : 0));
  follow_sources(w, i, mask);
}

inline float flush(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.f, x) : x; }

inline int perturbation = 0;

// An approximate function's error, of up to `ulps`: a fixed function of its input and of `perturbation`, if not 0.
inline float perturb(float x, u32 input, int ulps) {
  if (!perturbation || !(std::fabs(x) > 1e-37f) || std::isinf(x)) return x;
  u32 hash = (input + perturbation * 0x9e3779b9u) * 0x85ebca6bu;
  hash ^= hash >> 15;
  hash *= 0xc2b2ae35u;
  hash ^= hash >> 13;
  return float_of(bits_of(x) + int(hash % (2 * ulps + 1)) - ulps);
}

#define PTX_UNARY(name, result) \
  struct name {                 \
    template <class T>          \
    T operator()(T a) const {   \
      return T(result);         \
    }                           \
  };
#define PTX_BINARY(name, result)   \
  struct name {                    \
    template <class T, class U>    \
    T operator()(T a, U b) const { \
      return T(result);            \
    }                              \
  };
#define PTX_COMPARISON(name, result)  \
  struct name {                       \
    template <class T>                \
    bool operator()(T a, T b) const { \
      return result;                  \
    }                                 \
  };

PTX_UNARY(Move, a)
PTX_UNARY(Negate, -a)
PTX_UNARY(Not, ~a)
PTX_UNARY(Absolute, a < 0 ? -a : a)
PTX_UNARY(FloatAbsolute, std::fabs(a))
PTX_UNARY(Root, std::sqrt(a))
PTX_UNARY(Reciprocal, T(1) / a)
PTX_BINARY(Add, a + b)
PTX_BINARY(Subtract, a - b)
PTX_BINARY(Multiply, a* b)
PTX_BINARY(And, a& b)
PTX_BINARY(Or, a | b)
PTX_BINARY(Xor, a ^ b)
PTX_BINARY(FloatDivide, a / b)
PTX_BINARY(Divide, b == 0 ? T(-1) : T(a / b))
PTX_BINARY(Remainder, b == 0 ? a : T(a % b))
PTX_BINARY(Least, a < b ? a : b)
PTX_BINARY(Greatest, a > b ? a : b)
PTX_BINARY(ShiftLeft, b >= sizeof(T) * 8 ? 0 : T(a << b))
PTX_BINARY(ShiftRight, b >= sizeof(T) * 8 ? (a < 0 ? T(-1) : T(0)) : T(a >> b))
// A NaN gives the other number, and -0 is less than 0.
PTX_BINARY(FloatGreatest, a != a ? b : b != b ? a : a == 0 && b == 0 ? (std::signbit(a) ? b : a) : a > b ? a : b)
PTX_BINARY(CopySign, std::copysign(b, a))
PTX_BINARY(FloatLeast, a != a ? b : b != b ? a : a == 0 && b == 0 ? (std::signbit(a) ? a : b) : a < b ? a : b)
PTX_COMPARISON(Equal, a == b)
PTX_COMPARISON(Different, a != b)
PTX_COMPARISON(OrderedDifferent, a<b || a> b)
PTX_COMPARISON(Less, a < b)
PTX_COMPARISON(LessEqual, a <= b)
PTX_COMPARISON(Greater, a > b)
PTX_COMPARISON(GreaterEqual, a >= b)
PTX_COMPARISON(Numbers, a == a && b == b)
template <class F>  // of floats that may be NaN, such as setp.ltu
struct Unordered {
  template <class T>
  bool operator()(T a, T b) const {
    return a != a || b != b || F()(a, b);
  }
};
struct NotNumbers {
  template <class T>
  bool operator()(T a, T b) const {
    return !Numbers()(a, b);
  }
};
template <float (*number)(u16), class F>
struct OfHalf {
  bool operator()(u16 a, u16 b) const { return F()(number(a), number(b)); }
};
struct PredicateNot {
  u32 operator()(u32 a, u32) const { return ~a; }
};
struct PredicateMove {
  u32 operator()(u32 a, u32) const { return a; }
};
PTX_UNARY(HalfAbsolute, a & 0x7fff)
PTX_UNARY(HalfNegate, a ^ 0x8000)

struct FusedMultiplyAdd {
  template <class T>
  T operator()(T a, T b, T c) const {
    return std::fma(a, b, c);
  }
};
struct MultiplyAdd {
  template <class T>
  T operator()(T a, T b, T c) const {
    return T(a * b + c);
  }
};
template <int rounding>
struct RoundedAdd {
  float operator()(float a, float b) const {
    const volatile float x = a, y = b;  // volatile, so that nothing moves past the changes of rounding
    fesetround(rounding);
    const volatile float result = x + y;
    fesetround(FE_TONEAREST);
    return result;
  }
};
template <int rounding>
struct RoundedFusedMultiplyAdd {
  float operator()(float a, float b, float c) const {
    const volatile float x = a, y = b, z = c;  // volatile, so that nothing moves past the changes of rounding
    fesetround(rounding);
    const volatile float result = std::fma(float(x), float(y), float(z));
    fesetround(FE_TONEAREST);
    return result;
  }
};
struct RoundedToZeroAdd {
  float operator()(float a, float b) const {
    const volatile float x = a, y = b;
    fesetround(FE_TOWARDZERO);
    const volatile float result = x + y;
    fesetround(FE_TONEAREST);
    return result;
  }
};
struct DotOfHalves {  // c + the two 16-bit numbers of a times the two low bytes of b
  u32 operator()(u32 a, u32 b, u32 c) const { return c + (a & 0xffff) * (b & 0xff) + (a >> 16) * (b >> 8 & 0xff); }
};
struct MultiplyHigh {
  template <class T>
  T operator()(T a, T b) const {
    using Long = std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>;
    return T((Long(a) * Long(b)) >> (sizeof(T) * 8));
  }
};

}  // namespace ptx
