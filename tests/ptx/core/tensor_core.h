// The product of two small matrices by a warp, as tensor cores compute it.
#pragma once

#include "arithmetic.h"

namespace ptx {

inline double truncated(double x, double unit) { return std::trunc(x / unit) * unit; }

inline float round_to_zero(double x) {
  float nearest = float(x);
  if (std::fabs(double(nearest)) > std::fabs(x)) nearest = std::nextafter(nearest, 0.0f);
  return nearest;
}

// c + the sum of exact products, rounded to zero. With perturbation, terms lose what is 24 bits below the largest.
inline float tensor_sum(const double* products, int count, float c) {
  double largest = std::fabs(c), sum = 0;
  for (int k = 0; k < count; ++k) largest = std::max(largest, std::fabs(products[k]));
  if (!perturbation || largest == 0 || !std::isfinite(largest)) {
    for (int k = 0; k < count; ++k) sum += products[k];
    return round_to_zero(sum + c);
  }
  const double unit = std::ldexp(1.0, std::ilogb(largest) - 24);
  for (int k = 0; k < count; ++k) sum += truncated(products[k], unit);
  return round_to_zero(sum + truncated(c, unit));
}

// d = A B + c, A (16,8) and B (8,8) of TF32: of their numbers the upper 19 bits count. Lane l has rows l/4 and l/4 + 8
// of A, c and d, column l/4 of B, columns l%4 and l%4 + 4 of A, such rows of B, and columns 2 (l%4) and + 1 of c and d.
inline void multiply_tf32(Warp& w, const Instruction& i, u32) {
  const auto number = [&](int source, int lane) {
    return double(float_of(values<u32>(w, i.s[source])[lane] & 0xffffe000u));
  };
  float result[4][kLanes];
  u32 bits[4];
  for (int q = 0; q < 4; ++q) bits[q] = undefined(w, i.s[6 + q]);
  for (int l = 0; l < kLanes; ++l)
    for (int q = 0; q < 4; ++q) {
      const int row = l / 4, column = 2 * (l % 4) + q % 2;
      double products[8];
      for (int k = 0; k < 8; ++k) {
        const int a = q / 2 + 2 * (k / 4), b = 4 + k / 4, of_a = 4 * row + k % 4, of_b = 4 * column + k % 4;
        products[k] = number(a, of_a) * number(b, of_b);
        if (has(undefined(w, i.s[a]), of_a) || has(undefined(w, i.s[b]), of_b)) bits[q] |= 1u << l;
      }
      result[q][l] = tensor_sum(products, 8, values<float>(w, i.s[6 + q])[l]);
    }
  for (int q = 0; q < 4; ++q) {
    memcpy(values<float>(w, i.d[q]), result[q], sizeof result[q]);
    set_undefined(w, i.d[q], kAllLanes, bits[q]);
  }
}

// d = A B + c of float64, A (8 rows, 4 parts) and B (4 parts, 8); `immediate` has the 1 or 2 blocks of 8 rows. Lane l has
// column l%4 of each part of A, in row l/4 of each block, the blocks of a part side by side; row l%4 of each part of B,
// column l/4; and columns 2 (l%4) and + 1 of c and d in row l/4 of each block.
inline void multiply_f64(Warp& w, const Instruction& i, u32) {
  const int rows = int(i.immediate), results = 2 * rows, parts = (i.num_sources - results) / (rows + 1);
  const int first_b = rows * parts, first_c = first_b + parts;
  double result[4][kLanes];
  u32 bits[4];
  for (int q = 0; q < results; ++q) {
    bits[q] = undefined(w, i.s[first_c + q]);
    for (int l = 0; l < kLanes; ++l) {
      const int row = l / 4, column = 2 * (l % 4) + q % 2;
      double sum = values<double>(w, i.s[first_c + q])[l];
      for (int k = 0; k < 4 * parts; ++k) {
        const int a = rows * (k / 4) + q / 2, b = first_b + k / 4, of_a = 4 * row + k % 4, of_b = 4 * column + k % 4;
        sum = std::fma(values<double>(w, i.s[a])[of_a], values<double>(w, i.s[b])[of_b], sum);
        if (has(undefined(w, i.s[a]), of_a) || has(undefined(w, i.s[b]), of_b)) bits[q] |= 1u << l;
      }
      result[q][l] = sum;
    }
  }
  for (int q = 0; q < results; ++q) {
    memcpy(values<double>(w, i.d[q]), result[q], sizeof result[q]);
    set_undefined(w, i.d[q], kAllLanes, bits[q]);
  }
}

}  // namespace ptx
