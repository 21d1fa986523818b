// How a block of threads holds an episode of LRUA: a thread has a slot or two, whose rows of the memory are in shared
// memory, and a warp copies and sums up the rows of its own slots, so that it waits for no other warp.
//
// Every slot's numbers are computed by the same instructions, so that equal slots get equal bits.
#pragma once

#include "lrua_lanes.h"

namespace mannkern {

constexpr int kStepSlots = 256, kStepNumbers = 10240;  // most slots, and numbers of a memory, of an episode
constexpr int kStepWidth = 128;                        // most columns, four times as many as a warp has lanes
constexpr int kSlices = 4;                             // most parts of a warp's slots that are summed up apart

// Slots of a thread. Two of them share what the thread reads of keys and adds, which is most of what it reads.
template <int kN>
constexpr int kOwn = kN ? 2 : 1;

// The sizes of an episode. kN and kW are N and W, or 0 where they are known only when the kernel runs.
template <int kN, int kW>
struct StepSizes {
  static constexpr int kOfWarp = kOwn<kN> * kLanes;  // slots of a warp
  int N, W;

  MANNKERN_HOST_TOO int slots() const { return kN ? kN : N; }
  MANNKERN_HOST_TOO int columns() const { return kW ? kW : W; }
  MANNKERN_HOST_TOO int warps() const { return (slots() + kOfWarp - 1) / kOfWarp; }
  MANNKERN_HOST_TOO int groups() const { return warps() * kOwn<kN>; }  // of 32 slots
  __device__ bool has(int i) const { return (kN && kN % kLanes == 0) || i < slots(); }

  // Chunks of four columns in a row.
  MANNKERN_HOST_TOO int chunks() const { return columns() / 4; }
  // Numbers from a row to the next. An odd number of chunks: eight lanes then read a chunk of eight rows at once.
  MANNKERN_HOST_TOO int pitch() const { return 4 * (chunks() | 1); }
  // at / chunks(), for at up to kOfWarp times chunks(): rounding up 65536 / chunks() errs by less than 1 / chunks() there.
  __device__ int row_of(int at) const { return int(unsigned(at) * unsigned(65536 / chunks() + 1) >> 16); }
  // The parts into which a warp's slots are divided to be summed up.
  MANNKERN_HOST_TOO int slices() const { return least(kLanes / chunks(), kSlices); }
  // Numbers of a warp's sums over its slots, of R heads.
  template <int R>
  MANNKERN_HOST_TOO int sums() const {
    return slices() * R * columns();
  }
};

// A warp's rows of a memory, in shared memory.
template <int kN, int kW>
struct WarpRows {
  StepSizes<kN, kW> sizes;
  float* at;
  int first, lane;  // the first slot

  // The row of the thread's slot s.
  __device__ float4* own(int s) const { return reinterpret_cast<float4*>(at + (s * kLanes + lane) * sizes.pitch()); }
  __device__ void clear_own(int s) const {
    for (int c = 0; c < sizes.chunks(); ++c) own(s)[c] = float4{0.0f, 0.0f, 0.0f, 0.0f};
  }
  __device__ int slot(int s) const { return first + s * kLanes + lane; }
  __device__ bool has(int s) const { return sizes.has(slot(s)); }
  // From rows of a memory, which lie behind each other; and from those of another one, to rows `gap` numbers behind.
  __device__ void load_later(const float* from) const {
    const float* own = from + 4 * lane;
    each_chunk([&](int q, float* place, bool exists) { copy_later(place, exists ? own + q : from, exists); });
  }
  __device__ void load_later(const float* from, const float* other, int gap) const {
    const float *own = from + 4 * lane, *own_other = other + 4 * lane;
    each_chunk([&](int q, float* place, bool exists) {
      copy_later(place, exists ? own + q : from, exists);
      copy_later(place + gap, exists ? own_other + q : other, exists);
    });
  }
  __device__ void store(float* to) const {
    to += 4 * lane;
    each_chunk([&](int q, const float* place, bool exists) {
      if (exists) *reinterpret_cast<float4*>(to + q) = *reinterpret_cast<const float4*>(place);
    });
  }
  // Sums over the warp's slots of a weight of each head (kOfWarp,kPitch<R>) times the row. A lane has a chunk of a part
  // of the slots; parts of 22 slots with 40 columns lie in different banks.
  template <int R>
  __device__ void weighted_sums(float4 (&sums)[R], const float* weights) const {
    const int slice = sizes.row_of(lane), chunk = lane - slice * sizes.chunks(), slices = sizes.slices();
#pragma unroll
    for (int h = 0; h < R; ++h) sums[h] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (slice >= slices) return;
    const int most = (sizes.kOfWarp + slices - 1) / slices, all = sizes.kOfWarp - (slices - 1) * most;
    const float *row = at + slice * most * sizes.pitch() + 4 * chunk, *first = weights + slice * most * kPitch<R>;
    const auto add_slot = [&](int slot) {
      float w[R];
      load_heads(w, first + slot * kPitch<R>);
      const float4 x = *reinterpret_cast<const float4*>(row + slot * sizes.pitch());
#pragma unroll
      for (int h = 0; h < R; ++h) add_scaled(sums[h], w[h], x);
    };
#pragma unroll(kW ? sizes.kOfWarp : 2)
    for (int slot = 0; slot < all; ++slot) add_slot(slot);
    if (slice + 1 == slices) return;
    for (int slot = all; slot < most; ++slot) add_slot(slot);
  }
  // Puts the weighted sums (slices,R,W) at `place`, which may be where the rows were, once the warp has read them.
  template <int R>
  __device__ void put_sums(const float4 (&sums)[R], float* place) const {
    const int slice = sizes.row_of(lane), chunk = lane - slice * sizes.chunks();
    if (slice >= sizes.slices()) return;
    float4* to = reinterpret_cast<float4*>(place) + slice * R * sizes.chunks() + chunk;
#pragma unroll
    for (int h = 0; h < R; ++h) to[h * sizes.chunks()] = sums[h];
  }

 private:
  // Calls f(q, place, whether its row exists) for the chunks that the lane copies: from or to q numbers behind its first.
  template <class F>
  __device__ void each_chunk(F f) const {
    const int gap = 4 * (1 - (sizes.chunks() & 1));  // between rows
    float* first_place = at + 4 * lane;
    if (sizes.has(first + sizes.kOfWarp - 1)) {
#pragma unroll
      for (int k = 0; k < kOwn<kN> * sizes.chunks(); ++k)
        f(4 * k * kLanes, first_place + 4 * k * kLanes + sizes.row_of(k * kLanes + lane) * gap, true);
      return;
    }
#pragma unroll 1
    for (int k = 0; k < sizes.chunks(); ++k) {
      const int row = sizes.row_of(k * kLanes + lane);
      f(4 * k * kLanes, first_place + 4 * k * kLanes + row * gap, sizes.has(first + row));
    }
  }
};

// Number j of head h of the weighted sums over all slots. `sums` are those of the first warp, the others' `gap` numbers
// apart.
template <int R, int kN, int kW>
__device__ float total_at(const float* sums, int gap, const StepSizes<kN, kW>& sizes, int h, int j) {
  const int slices = sizes.slices(), slice_numbers = sizes.columns() * R;
  const float* from = sums + h * sizes.columns() + j;
  float sum = 0;
#pragma unroll(kN ? 2 : 1)
  for (int w = 0; w < sizes.warps(); ++w, from += gap)
    for (int s = 0; s < slices; ++s) sum += from[s * slice_numbers];
  return sum;
}

// The sum over warps of what each has put at totals (warps,kPitch<R>).
template <int R, int kN, int kW>
__device__ void add_warps(float (&sums)[R], const float* totals, const StepSizes<kN, kW>& sizes) {
#pragma unroll
  for (int h = 0; h < R; ++h) sums[h] = 0;
#pragma unroll(kN ? 2 : 1)
  for (int w = 0; w < sizes.warps(); ++w) {
    float part[R];
    load_heads(part, totals + w * kPitch<R>);
#pragma unroll
    for (int h = 0; h < R; ++h) sums[h] += part[h];
  }
}

// Numbers from a head's vector to the next one in shared memory.
template <int kW>
constexpr int kGap = kW ? kW : kStepWidth;

// A lane's numbers of a head's vector (W), 32 columns apart; 0 where there are none.
constexpr int kOfVector = kStepWidth / kLanes;
template <int kN, int kW>
__device__ void load_vector(float (&to)[kOfVector], const float* from, const StepSizes<kN, kW>& sizes, int lane) {
#pragma unroll
  for (int k = 0; k < kOfVector; ++k) {
    to[k] = 0;
    if (k * kLanes < sizes.columns() && from && k * kLanes + lane < sizes.columns()) to[k] = from[k * kLanes + lane];
  }
}

// Puts a head's vector, scaled, into vectors (R,kGap<kW>); by a warp.
template <int kN, int kW>
__device__ void put_vector(float* vectors, const float (&v)[kOfVector], float scale, const StepSizes<kN, kW>& sizes,
                           int h, int lane) {
#pragma unroll
  for (int k = 0; k < kOfVector; ++k) {
    const int j = k * kLanes + lane;
    if (k * kLanes < sizes.columns() && j < sizes.columns()) vectors[h * kGap<kW> + j] = scale * v[k];
  }
}

// Puts the key k / max(|k|, eps) of head h into unit keys (R,kGap<kW>) and returns max(|k|, eps); by a warp.
template <int kN, int kW>
__device__ float put_unit_key(float* units, const float (&key)[kOfVector], const StepSizes<kN, kW>& sizes, int h,
                              int lane) {
  const auto squares = [&](float scale) {
    float sum = 0;
#pragma unroll
    for (int k = 0; k < kOfVector; ++k) sum += (scale * key[k]) * (scale * key[k]);
    return sum_of_lanes(sum);
  };
  const float norm = norm_from(squares(1.0f), squares);
  put_vector(units, key, inverse_of(norm), sizes, h, lane);
  return norm;
}

}  // namespace mannkern
