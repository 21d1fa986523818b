// The product of a block's weights with the vectors of all episodes of its cluster, on tensor cores, as accurate as
// float32: each number is split into two of 11 bits, and a product is the sum of three products of parts.
#pragma once

#include "cluster.h"
#include "tiles.h"

namespace mannkern {

constexpr uint32_t kAll = 0xffffffffu;  // all lanes of a warp
constexpr int kEpisodes = 8;            // episodes of a cluster: the columns of a tensor core's product
constexpr int kTileRows = 16, kTileDepth = 8;
constexpr int kChain = 4;  // products that a tensor core sums up, which rounds each sum towards zero

// The pitch of a row of vectors, which lanes read in pairs of numbers, or of a pair of rows of weights, half of it: so
// they have no bank conflicts.
MANNKERN_HOST_TOO constexpr int pitch_of(int columns) { return columns + ((8 - columns) % 32 + 32) % 32; }
MANNKERN_HOST_TOO constexpr int whole_tiles(int columns) { return (columns + kTileDepth - 1) / kTileDepth * kTileDepth; }
MANNKERN_HOST_TOO int divide_up(int a, int b) { return (a + b - 1) / b; }

// x with 22 bits, which two numbers of 11 bits hold exactly. Weights and vectors are rounded so before a product. The NaN
// that a GPU computes has all bits set, and would become -0.
__device__ inline float round_to_22_bits(float x) { return x == x ? number_of((bits_of(x) + 2u) & ~3u) : x; }

// x = its upper 11 bits + low. PTX does not say what a tensor core does with the bits below the upper 11.
__device__ inline uint32_t high_part(float x) { return bits_of(x) & 0xffffe000u; }
__device__ inline uint32_t low_part(float x) { return bits_of(x - number_of(high_part(x))); }

// Where number k of a row of weights is. Rows lie in pairs, k by k, as a lane of a tensor core takes them; a tile has 8
// pairs.
MANNKERN_HOST_TOO int weight_place(int row, int k, int pitch) { return (row / 2 * pitch + k) * 2 + row % 2; }
MANNKERN_HOST_TOO int weight_size(int rows, int pitch) { return (rows + rows % 2) * pitch; }

// Where a lane reads the tiles of a product: pair l/4 of the weights, row l/4 of the vectors.
struct TilePlace {
  const float *pair, *vector;
  // The tile has the rows from `row` on, of `rows`; `vectors` has a row for each episode.
  __device__ TilePlace(const float* weights, int pitch, int row, int rows, const float* vectors, int vector_pitch) {
    const int lane = threadIdx.x % kLanes, own = row / 2 + lane / 4, last = (rows - 1) / 2, k = 2 * (lane % 4);
    pair = weights + ((own < last ? own : last) * pitch + k) * 2;
    vector = vectors + lane / 4 * vector_pitch + k;
  }
};

// large += a b of the upper 11 bits of their numbers, small += the two products with lower bits.
__device__ inline void multiply_tile(float (&large)[4], float (&small)[2][4], const float4& a, const float2& b) {
  const uint32_t a_high[4] = {high_part(a.x), high_part(a.y), high_part(a.z), high_part(a.w)};
  const uint32_t a_low[4] = {low_part(a.x), low_part(a.y), low_part(a.z), low_part(a.w)};
  const uint32_t b_high[2] = {high_part(b.x), high_part(b.y)}, b_low[2] = {low_part(b.x), low_part(b.y)};
  multiply_add(large, a_high, b_high);
  multiply_add(small[0], a_low, b_high);
  multiply_add(small[1], a_high, b_low);
}

// sums += weights times vectors over the tiles [first, last) of 8 columns: a warp's sums of 16 rows by 8 episodes. The
// compiler reads four tiles before it multiplies them; none behind the last is read, where others may write.
__device__ inline void multiply(float (&sums)[4], const TilePlace& p, int first, int last) {
  float large[4] = {}, small[2][4] = {};
  const float4* pair = reinterpret_cast<const float4*>(p.pair) + first * (kTileDepth / 2);
  const float2* vector = reinterpret_cast<const float2*>(p.vector) + first * (kTileDepth / 2);
#pragma unroll 4
  for (int k = 0; k < last - first; ++k) {
    multiply_tile(large, small, pair[k * (kTileDepth / 2)], vector[k * (kTileDepth / 2)]);
    if (k % kChain == kChain - 1)
#pragma unroll
      for (int q = 0; q < 4; ++q) sums[q] += large[q], large[q] = 0;
  }
#pragma unroll
  for (int q = 0; q < 4; ++q) sums[q] += large[q] + (small[0][q] + small[1][q]);
}

constexpr int kSumsPitch = kEpisodes + 1;  // odd: threads that read the sums of one episode use different banks

// Stores the sums to rows of kSumsPitch numbers, of which `rows` exist.
__device__ inline void store_sums(float* to, const float (&sums)[4], int rows) {
  const int lane = threadIdx.x % kLanes, row = lane / 4 * 2, column = 2 * (lane % 4);
#pragma unroll
  for (int q = 0; q < 4; ++q)
    if (row + q / 2 < rows) to[(row + q / 2) * kSumsPitch + column + q % 2] = sums[q];
}

}  // namespace mannkern
