// float16 and bfloat16: conversions, rounded to the nearest, ties to even.
#pragma once

#include <algorithm>

#include "arithmetic.h"

namespace ptx {

inline float bfloat16_of(u16 bits) { return float_of(u32(bits) << 16); }
inline u16 to_bfloat16(float x) {
  if (x != x) return 0x7fff;
  return u16((bits_of(x) + 0x7fff + (bits_of(x) >> 16 & 1)) >> 16);
}

inline u16 to_float16(float x) {
  const u32 sign = bits_of(x) >> 16 & 0x8000, largest = 0x7c00;
  if (x != x) return 0x7fff;
  if (x == 0 || std::isinf(x)) return u16(sign | (x == 0 ? 0 : largest));
  const int exponent = std::max(std::ilogb(x), -14);  // below it numbers are subnormal
  const u32 number = u32(std::nearbyint(std::ldexp(std::fabs(double(x)), 10 - exponent)));
  return u16(sign | std::min((u32(exponent + 14) << 10) + number, largest));
}
inline float float16_of(u16 bits) {
  const int exponent = bits >> 10 & 31, number = bits & 0x3ff;
  const float size = exponent == 31  ? (number ? NAN : INFINITY)
                     : exponent == 0 ? std::ldexp(float(number), -24)
                                     : std::ldexp(float(number | 0x400), exponent - 25);
  return bits & 0x8000 ? -size : size;
}

// Mixed precision: float32 of halves and a float32, such as fma.rn.f32.bf16.
template <float (*number)(u16)>
void fuse_halves(Warp& w, const Instruction& i, u32 mask) {
  u16 *a = values<u16>(w, i.s[0]), *b = values<u16>(w, i.s[1]);
  float *c = values<float>(w, i.s[2]), *d = values<float>(w, i.d[0]);
  each_lane(mask, [&](int l) { d[l] = std::fma(number(a[l]), number(b[l]), c[l]); });
  follow_sources(w, i, mask);
}

template <float (*number)(u16), class F>
void combine_half(Warp& w, const Instruction& i, u32 mask) {
  u16* a = values<u16>(w, i.s[0]);
  float *b = values<float>(w, i.s[1]), *d = values<float>(w, i.d[0]);
  each_lane(mask, [&](int l) { d[l] = F()(number(a[l]), b[l]); });
  follow_sources(w, i, mask);
}

}  // namespace ptx
