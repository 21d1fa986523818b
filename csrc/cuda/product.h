// The product of a block's weights with the vectors of all episodes of its cluster, on tensor cores, as accurate as
// float32: each number is split into two of 11 bits, and a product is the sum of three products of parts.
#pragma once

#include "cluster.h"
#include "tiles.h"

namespace mannkern {

constexpr uint32_t kAll = 0xffffffffu;  // all lanes of a warp
constexpr int kEpisodes = 16;           // episodes of a cluster, two tiles of 8 columns
constexpr int kTileRows = 16, kTileDepth = 8;
constexpr int kChain = 4;  // products that a tensor core sums up, which rounds each sum towards zero

// A row of shared memory that takes its numbers k in pairs is free of bank conflicts if its pitch is 8 modulo 32.
MANNKERN_HOST_TOO int pitch_of(int columns) { return columns + ((8 - columns) % 32 + 32) % 32; }
MANNKERN_HOST_TOO int whole_tiles(int columns) { return (columns + kTileDepth - 1) / kTileDepth * kTileDepth; }
MANNKERN_HOST_TOO int divide_up(int a, int b) { return (a + b - 1) / b; }

// x = high + low: high is x rounded to 11 bits. A tensor core reads the upper 11 bits of low.
__device__ inline void split(uint32_t& high, uint32_t& low, float x) {
  high = (bits_of(x) + 0x1000u) & 0xffffe000u;
  low = bits_of(x - number_of(high));
}

// A warp's sums of 16 rows by 16 episodes.
struct TileSums {
  float at[2][4] = {};
};

// sums += weights times vectors over the tiles [first, last) of 8 columns. `weights` is the first of the 16 rows, of
// which only `rows` exist; `vectors` has a row for each episode.
__device__ inline void multiply(TileSums& sums, const float* weights, int pitch, int rows, const float* vectors,
                                int vector_pitch, int first, int last) {
  const int lane = threadIdx.x % kLanes, row = lane / 4, k = 2 * (lane % 4);
  const float* top = weights + (row < rows ? row : rows - 1) * pitch + k;
  const float* bottom = weights + (row + 8 < rows ? row + 8 : rows - 1) * pitch + k;
  const float* vector[2] = {vectors + row * vector_pitch + k, vectors + (row + 8) * vector_pitch + k};
  TileSums large, small;
#pragma unroll 4
  for (int tile = first; tile < last; ++tile) {
    const int at = tile * kTileDepth;
    const float2 upper = *reinterpret_cast<const float2*>(top + at);
    const float2 lower = *reinterpret_cast<const float2*>(bottom + at);
    uint32_t a_high[4], a_low[4];
    split(a_high[0], a_low[0], upper.x), split(a_high[1], a_low[1], lower.x);
    split(a_high[2], a_low[2], upper.y), split(a_high[3], a_low[3], lower.y);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      const float2 x = *reinterpret_cast<const float2*>(vector[n] + at);
      uint32_t b_high[2], b_low[2];
      split(b_high[0], b_low[0], x.x), split(b_high[1], b_low[1], x.y);
      multiply_add(small.at[n], a_low, b_high);
      multiply_add(small.at[n], a_high, b_low);
      multiply_add(large.at[n], a_high, b_high);
    }
    if ((tile - first) % kChain == kChain - 1)
#pragma unroll
      for (int n = 0; n < 2; ++n)
#pragma unroll
        for (int q = 0; q < 4; ++q) sums.at[n][q] += large.at[n][q], large.at[n][q] = 0;
  }
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int q = 0; q < 4; ++q) sums.at[n][q] += large.at[n][q] + small.at[n][q];
}

constexpr int kSumsPitch = kEpisodes + 1;  // odd: threads that read the sums of one episode use different banks

// Stores the sums to rows of kSumsPitch numbers, of which `rows` exist.
__device__ inline void store_sums(float* to, const TileSums& sums, int rows) {
  const int lane = threadIdx.x % kLanes, row = lane / 4, column = 2 * (lane % 4);
#pragma unroll
  for (int n = 0; n < 2; ++n)
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int r = row + 8 * (q / 2);
      if (r < rows) to[r * kSumsPitch + 8 * n + column + q % 2] = sums.at[n][q];
    }
}

}  // namespace mannkern
