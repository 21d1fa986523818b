// Products in bfloat16 with sums in float32, for x86-64 with AVX512-BF16: one instruction multiplies 32 pairs of
// numbers and adds two products each to a float32. Factors come in float32 and are rounded here.
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512bf16,avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512bf16,avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif
#define MANNKERN_BYTES 64
#include <immintrin.h>

#include "arena.h"
#include "gemm.h"
#include "kernels.h"

namespace {

using mannkern::Matrix;

constexpr int64_t P = kPanel<float>;

// 16 pairs of bfloat16: of each lane the number of a, then that of b, rounded to nearest, ties to even.
inline Vec<float> pairs(Vec<float> a, Vec<float> b) {
  alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                     8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
  return (Vec<float>)_mm512_permutexvar_epi16(_mm512_load_si512(order), rounded);
}

// Rounds panels of K rows of P numbers to (K + 1) / 2 rows of P pairs, in place.
void round_panels(float* panels, int64_t K, int64_t begin, int64_t end) {
  for (int64_t p = begin; p < end; ++p) {
    float *out = panels + p * P * K, *row = out;
    for (int64_t k = 0; k < K; k += 2, row += 2 * P, out += P)
      for (int64_t j = 0; j < P; j += 16)
        store(out + j, pairs(load(row + j), k + 1 < K ? load(row + P + j) : Vec<float>{}));
  }
}

// Numbers of A in pairs, for rows of up to 32 numbers more than K.
int64_t pairs_size(const Product<float>& op) { return (op.M + 15) / 16 * 16 * ((op.K + 31) / 32 * 16); }

// A in pairs of k, at `out`: pair (i, k) is out[i * row + k * column].
Matrix<float> round_rows(float* out, const Product<float>& op) {
  const auto& [numbers, stride, column] = op.a;
  const auto a = numbers;  // Clang 15 and older do not let a lambda capture a name of a binding
  const auto row = stride;
  if (column == 1) {
    const int64_t width = (op.K + 31) / 32 * 16;
    for (int64_t i = 0; i < op.M; ++i)
      for (int64_t k = 0; k < op.K; k += 32) {
        const auto some = [&](int64_t from) {
          const int64_t count = op.K - from < 0 ? 0 : op.K - from < 16 ? op.K - from : 16;
          return _mm512_maskz_loadu_ps(__mmask16((1u << count) - 1), a + i * row + from);
        };
        const __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh(some(k + 16), some(k));
        _mm512_storeu_si512(out + i * width + k / 2, rounded);
      }
    return {out, width, 1};
  }
  const int64_t height = (op.M + 15) / 16 * 16;  // A is a transpose: its columns lie in one piece, row is 1
  for (int64_t k = 0; k < op.K; k += 2)
    for (int64_t i = 0; i < op.M; i += 16) {
      const __mmask16 mask = op.M - i < 16 ? __mmask16((1u << (op.M - i)) - 1) : __mmask16(0xffff);
      const float* at = a + k * column + i;
      const auto even = (Vec<float>)_mm512_maskz_loadu_ps(mask, at);
      const auto odd = (Vec<float>)_mm512_maskz_loadu_ps(k + 1 < op.K ? mask : 0, at + column);
      store(out + k / 2 * height + i, pairs(even, odd));
    }
  return {out, 1, height};
}

// As tile of gemm.h, where `op` has the pairs of A, and K counts pairs.
template <int Rows, int Vectors>
void pairs_tile(const Product<float>& op, const float* a, const float* panel, float* c, int64_t columns) {
  constexpr int L = 16;
  const int64_t row = op.a.row, column = op.a.column;
  __m512 sum[Rows][Vectors];
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_setzero_ps();
  for (int64_t k = 0; k < op.K; ++k, a += column, panel += P) {
    __m512bh b[Vectors];
    for (int v = 0; v < Vectors; ++v) b[v] = (__m512bh)_mm512_loadu_ps(panel + v * L);
    for (int r = 0; r < Rows; ++r) {
      const __m512bh x = (__m512bh)_mm512_set1_ps(a[r * row]);
      for (int v = 0; v < Vectors; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], x, b[v]);
    }
  }
  for (int r = 0; r < Rows; ++r)
    for (int v = 0; v < Vectors; ++v) {
      float* out = c + r * op.c_stride + v * L;
      const int64_t count = columns - v * L < L ? columns - v * L : L;
      const __mmask16 mask = __mmask16((1u << count) - 1);
      const __m512 before = op.add ? _mm512_maskz_loadu_ps(mask, out) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(out, mask, op.add ? _mm512_add_ps(before, sum[r][v]) : sum[r][v]);
    }
}

template <int Rows>
void pairs_tile_of(int64_t rows, const Product<float>& op, const float* a, const float* panel, float* c,
                   int64_t columns) {
  if constexpr (Rows > 0) {
    if (rows != Rows) pairs_tile_of<Rows - 1>(rows, op, a, panel, c, columns);
    else if (columns > 16) pairs_tile<Rows, 2>(op, a, panel, c, columns);
    else pairs_tile<Rows, 1>(op, a, panel, c, columns);
  }
}

// Panels [begin, end) of a product, with the pairs of A at `rounded`.
void multiply_pairs(const Product<float>& whole, float* rounded, int64_t begin, int64_t end) {
  Product<float> op = whole;
  op.a = round_rows(rounded, whole), op.K = (whole.K + 1) / 2;
  const int64_t tiles = (op.M + kTileRows - 1) / kTileRows, fit = kInCache / (op.K * kTileRows + 1) + 1;
  const auto start = [&](int64_t i) { return i * op.M / tiles; };
  for (int64_t first = 0; first < tiles; first += fit)
    for (int64_t p = begin; p < end; ++p)
      for (int64_t i = first; i < tiles && i < first + fit; ++i)
        pairs_tile_of<kTileRows>(start(i + 1) - start(i), op, op.a.data + start(i) * op.a.row,
                                 op.panels + p * P * whole.K, op.c + start(i) * op.c_stride + p * P,
                                 columns_of<float>(p, op.N));
}

void gemm_pairs(const Product<float>& op, int64_t begin, int64_t end) {
  Arena<float> arena(pairs_size(op));
  multiply_pairs(op, arena.take(pairs_size(op)), begin, end);
}

void gemms_pairs(const Products<float>& op, int64_t begin, int64_t end) {
  Arena<float> arena(pairs_size(op.first));
  float* rounded = arena.take(pairs_size(op.first));
  for (int64_t i = 0; i < op.steps; ++i) {
    Product<float> product = op.first;
    product.a.data += i * op.a_step, product.c += i * op.c_step;
    multiply_pairs(product, rounded, begin, end);
  }
}

}  // namespace

namespace mannkern {
const BFloat16Products avx512_bfloat16 = {round_panels, gemm_pairs, gemms_pairs};
}
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
