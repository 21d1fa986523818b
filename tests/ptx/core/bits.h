// Bit fields, moves between registers of different widths, special registers, and conversions.
#pragma once

#include "halves.h"

namespace ptx {

template <class F>  // of one lane's sources, each as 64 bits, to its result
void on_bits(Warp& w, const Instruction& i, u32 mask, F f) {
  each_lane(mask, [&](int l) {
    u64 s[8] = {};
    for (int k = 0; k < i.num_sources; ++k) s[k] = get(w, i.s[k], l);
    set(w, i.d[0], l, f(s));
  });
  follow_sources(w, i, mask);
}

inline void move_bits(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) { return s[0]; });
}
inline void to_generic(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) { return s[0] + kSharedWindow; });
}
inline void from_generic(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) { return s[0] - kSharedWindow; });
}
inline void count_ones(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) { return u64(__builtin_popcountll(s[0])); });
}
inline void count_leading_zeros(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) { return u64(u32(s[0]) ? __builtin_clz(u32(s[0])) : 32); });
}
// How far to the left the highest 1 can be shifted; -1 if there is none.
inline void find_first_one(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) { return u64(u32(s[0]) ? __builtin_clz(u32(s[0])) : ~0u); });
}
inline void reverse_bits(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) {
    u64 reversed = 0;
    for (int k = 0; k < 32; ++k) reversed |= (s[0] >> k & 1) << (31 - k);
    return reversed;
  });
}

// bfe: `length` bits from `begin` on, of a number that is extended by its sign or by zeros.
template <class T>
void extract_bits(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) -> u64 {
    const int begin = s[1] & 255, length = s[2] & 255;
    if (length == 0) return 0;
    const i64 number = T(u32(s[0])), shifted = number >> (begin > 63 ? 63 : begin);
    if (length >= 32 || (std::is_signed_v<T> && begin + length > 32)) return u32(shifted);
    const u64 field = u64(shifted) & ((1ull << length) - 1);
    return std::is_signed_v<T> && field >> (length - 1) & 1 ? u32(field | ~0ull << length) : field;
  });
}

inline void insert_bits(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) -> u64 {
    const u64 begin = (s[2] & 255) > 32 ? 32 : s[2] & 255, length = s[3] & 255;
    const u64 field = (length >= 32 ? 0xffffffffull : (1ull << length) - 1) << begin;
    return u32((s[1] & ~field) | (s[0] << begin & field));
  });
}

// prmt: each byte of the result is one of the sources' eight, or eight times its sign.
inline void permute_bytes(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) -> u64 {
    const u64 bytes = s[0] | s[1] << 32;
    u32 result = 0;
    for (int k = 0; k < 4; ++k) {
      const u32 selector = s[2] >> (4 * k) & 15;
      u8 byte = u8(bytes >> (8 * (selector & 7)));
      if (selector & 8) byte = byte & 0x80 ? 0xff : 0;
      result |= u32(byte) << (8 * k);
    }
    return result;
  });
}

// shf. immediate: 0 left, 1 right, both modulo 32; 2 left, 3 right, both by at most 32.
inline void funnel_shift(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [&](const u64* s) -> u64 {
    const u64 both = s[0] | s[1] << 32, by = i.immediate < 2 ? s[2] & 31 : s[2] > 32 ? 32 : s[2];
    return i.immediate & 1 ? u32(both >> by) : u32((both << by) >> 32);
  });
}

inline void pack(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [&](const u64* s) {
    u64 value = 0;
    for (int k = 0, at = 0; k < i.num_sources; at += int(i.s[k++].width) * 8) value |= s[k] << at;
    return value;
  });
}

inline void unpack(Warp& w, const Instruction& i, u32 mask) {
  each_lane(mask, [&](int l) {
    const u64 value = get(w, i.s[0], l);
    for (int k = 0, at = 0; k < i.num_results; at += int(i.d[k++].width) * 8) set(w, i.d[k], l, value >> at);
  });
  follow_sources(w, i, mask);
}

// %tid, %ntid, %ctaid and %nctaid of x, y and z; %laneid; %warpid; %cluster_ctarank.
inline void special_register(Warp& w, const Instruction& i, u32 mask) {
  const Machine& m = *w.machine;
  const int axis = int(i.immediate % 3);
  each_lane(mask, [&](int l) {
    const u32 thread = w.id * kLanes + l, row = m.block[0], plane = m.block[0] * m.block[1];
    u32 value = 0;
    switch (i.immediate / 3) {
      case 0: value = axis == 0 ? thread % row : axis == 1 ? thread / row % m.block[1] : thread / plane; break;
      case 1: value = m.block[axis]; break;
      case 2: value = m.block_index[axis]; break;
      case 3: value = m.grid[axis]; break;
      default: value = axis == 0 ? l : axis == 1 ? w.id : w.block; break;
    }
    set(w, i.d[0], l, value);
  });
  follow_sources(w, i, mask);
}

// As in instructions.py: the types of cvt, and its mode: rounding, 256 saturates, 512 flushes.
enum Type { kS8, kU8, kS16, kU16, kS32, kU32, kS64, kU64, kF32, kF64, kBF16, kF16 };
enum Rounding { kNone, kRN, kRZ, kRM, kRP, kRNI, kRZI, kRMI, kRPI };

inline double to_whole(double x, int rounding) {
  switch (rounding) {
    case kRNI: return std::nearbyint(x);
    case kRZ:
    case kRZI: return std::trunc(x);
    case kRM:
    case kRMI: return std::floor(x);
    case kRP:
    case kRPI: return std::ceil(x);
    default: return x;
  }
}

// The nearest number of the type; NaN gives 0.
template <class T>
u64 to_integer(double x) {
  using Limits = std::numeric_limits<T>;
  if (x != x) return 0;
  if (x <= double(Limits::min())) return u64(Limits::min());
  return x >= std::ldexp(1.0, Limits::digits) ? u64(Limits::max()) : u64(T(x));
}

inline u64 float_to_integer(double x, int type) {
  switch (type) {
    case kS8: return to_integer<i8>(x);
    case kU8: return to_integer<u8>(x);
    case kS16: return to_integer<i16>(x);
    case kU16: return to_integer<u16>(x);
    case kS32: return to_integer<i32>(x);
    case kU32: return to_integer<u32>(x);
    case kS64: return to_integer<i64>(x);
    default: return to_integer<u64>(x);
  }
}

inline i64 as_integer(u64 bits, int type) {
  switch (type) {
    case kS8: return i8(bits);
    case kU8: return u8(bits);
    case kS16: return i16(bits);
    case kU16: return u16(bits);
    case kS32: return i32(bits);
    case kU32: return u32(bits);
    default: return i64(bits);
  }
}

inline double as_float(u64 bits, int type, bool flushes) {
  if (type == kBF16) return bfloat16_of(u16(bits));
  if (type == kF16) return float16_of(u16(bits));
  if (type == kF32) return flushes ? flush(float_of(u32(bits))) : float_of(u32(bits));
  double x;
  memcpy(&x, &bits, 8);
  return x;
}

inline void convert(Warp& w, const Instruction& i, u32 mask) {
  const int to = i.size, from = i.vector, rounding = i.immediate & 255;
  const bool saturates = i.immediate & 256, flushes = i.immediate & 512, from_float = from >= kF32;
  on_bits(w, i, mask, [&](const u64* s) -> u64 {
    const i64 integer = from_float ? 0 : as_integer(s[0], from);
    double x = from_float ? as_float(s[0], from, flushes) : 0;
    if (to < kF32) return from_float ? float_to_integer(to_whole(x, rounding), to) : u64(as_integer(u64(integer), to));
    if (from_float && rounding >= kRNI) x = to_whole(x, rounding);
    if (to == kF64) {
      x = from_float ? x : from == kU64 ? double(u64(integer)) : double(integer);
      u64 bits;
      memcpy(&bits, &x, 8);
      return bits;
    }
    float y = from_float ? float(x) : from == kU64 ? float(u64(integer)) : float(integer);
    if (flushes) y = flush(y);
    if (saturates) y = y > 0 ? std::fmin(y, 1.f) : 0;
    return to == kBF16 ? to_bfloat16(y) : to == kF16 ? to_float16(y) : bits_of(y);
  });
}

// cvt.rn.bf16x2.f32 and cvt.rn.f16x2.f32: the first source becomes the high half.
template <u16 (*convert_one)(float)>
void convert_to_halves(Warp& w, const Instruction& i, u32 mask) {
  on_bits(w, i, mask, [](const u64* s) -> u64 {
    return u32(convert_one(float_of(u32(s[0])))) << 16 | convert_one(float_of(u32(s[1])));
  });
}

}  // namespace ptx
