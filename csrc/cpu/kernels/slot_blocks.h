// A memory in slot blocks, and rows of weights padded to Np: how they are laid out, and the three products between
// them.
//
// A block holds 2 L slots, column by column, so each SIMD lane holds one slot and dot products need no horizontal sums.
// Every slot goes through the same instructions wherever it lies: equal slots stay bit-equal. N is padded to Np, whole
// blocks, and the padding holds zeros. csrc/README.md draws it. R vectors of W numbers (keys, adds, gradients) and R
// rows of weights meet a memory in three ways:
//   rank_update  X(i) += sum_h weights[h](i) vectors[h]       (write; gradients of the memory)
//   slot_dot     out[h](i) = vectors[h] . X(i)                (cosine; gradients of weights)
//   slot_sum     out[h] = sum_i weights[h](i) X(i)            (read; gradients of keys and adds)
#pragma once

#include "vector.h"

namespace {

template <class T>
constexpr int kBlock = 2 * Lanes<T>::L;
// Rows of a memory to prefetch ahead: a tile reads rows with strides that the hardware does not foresee.
template <class T>
constexpr int kAhead = 2 * Lanes<T>::L;
// Slots of a partial sum: one chain of float32 over thousands of slots would lose a digit.
template <class T>
constexpr int64_t kRun = 64 * Lanes<T>::L;
constexpr int64_t kColumns = 256;  // columns of a partial sum, for the same reason
constexpr int kHeads = 4;  // heads in one pass over the memory: as many accumulators fit in the registers

inline int64_t padded(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The end of the run of `count` slots that begins at `first`.
template <class T>
int64_t run_end(int64_t first, int64_t count) {
  return smaller(first + kRun<T>, count);
}

// Stores the sum of a run of columns, and adds that of the runs before it, which is at `out`.
template <class T>
__attribute__((always_inline)) inline void store_run(T* out, Vec<T> sum, bool first) {
  store(out, first ? sum : load(out) + sum);
}

// Sizes of an episode, and Np, the padded length of a row.
template <class T>
struct Sizes {
  int64_t N, W, R, Np;
  Sizes(int64_t n, int64_t w, int64_t r) : N(n), W(w), R(r), Np(padded(n, kBlock<T>)) {}
};

// Numbers of a memory in blocks.
template <class T>
int64_t memory_size(const Sizes<T>& s) {
  return s.Np * s.W;
}

// Numbers that load_blocks writes: whole tiles of L columns, so up to one tile past the last block.
template <class T>
int64_t blocks_size(const Sizes<T>& s) {
  return s.W * s.Np + kBlock<T> * Lanes<T>::L;
}

// Memory (N,W) to blocks, an L x L tile at a time. The columns of a tile beyond W spill into the next block, which is
// written later and overwrites them.
template <class T>
void load_blocks(T* X, const T* memory, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const int64_t end = s.N * s.W;
  for (int64_t i0 = 0; i0 < s.Np; i0 += L) {
    T* block = X + i0 / kBlock<T> * kBlock<T> * s.W + i0 % kBlock<T>;
    for (int64_t j0 = 0; j0 < s.W; j0 += L) {
      Vec<T> row[L];
      for (int r = 0; r < L; ++r) __builtin_prefetch(memory + (i0 + kAhead<T> + r) * s.W + j0);
      if ((i0 + L - 1) * s.W + j0 + L <= end) {
        for (int r = 0; r < L; ++r) row[r] = load(memory + (i0 + r) * s.W + j0);
      } else {
        T tile[L * L] = {};
        for (int64_t at = i0 * s.W + j0, r = 0; r < L && at < end; ++r, at += s.W)
          std::memcpy(tile + r * L, memory + at, smaller(L, end - at) * sizeof(T));
        for (int r = 0; r < L; ++r) row[r] = load(tile + r * L);
      }
      transpose<T>(row);
      for (int j = 0; j < L; ++j) store(block + (j0 + j) * kBlock<T>, row[j]);
    }
  }
}

// Blocks to memory (N,W). Whole vectors spill into rows not yet written: rows ascend, and the last columns come first.
template <class T>
void store_blocks(T* memory, const T* X, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const int64_t end = s.N * s.W;
  for (int64_t i0 = 0; i0 < s.N; i0 += L) {
    const T* block = X + i0 / kBlock<T> * kBlock<T> * s.W + i0 % kBlock<T>;
    for (int64_t j0 = (s.W - 1) / L * L; j0 >= 0; j0 -= L) {
      Vec<T> row[L];
      for (int r = 0; r < L; ++r) __builtin_prefetch(memory + (i0 + kAhead<T> + r) * s.W + j0, 1);
      // beyond column W it loads the last column again: behind the last block there may be no memory to read
      for (int j = 0; j < L; ++j) row[j] = load(block + smaller(j0 + j, s.W - 1) * kBlock<T>);
      transpose<T>(row);
      if ((i0 + L - 1) * s.W + j0 + L <= end) {
        for (int r = 0; r < L; ++r) store(memory + (i0 + r) * s.W + j0, row[r]);
      } else {
        T tile[L * L];
        for (int r = 0; r < L; ++r) store(tile + r * L, row[r]);
        for (int64_t at = i0 * s.W + j0, r = 0; r < L && at < end; ++r, at += s.W)
          std::memcpy(memory + at, tile + r * L, smaller(L, end - at) * sizeof(T));
      }
    }
  }
}

// The W numbers of a slot, `stride` apart.
template <class P>
struct Slot {
  P* at;
  int64_t stride;
};
template <class T, class P>  // P: T or const T
Slot<P> slot_at(P* X, int64_t i, const Sizes<T>& s) {
  return {X + i / kBlock<T> * kBlock<T> * s.W + i % kBlock<T>, kBlock<T>};
}

// Rows of N numbers to rows of Np, padded with zeros; null stands for zeros.
template <class T>
void load_rows(T* out, const T* in, int64_t rows, const Sizes<T>& s) {
  for (int64_t h = 0; h < rows; ++h) {
    if (in) std::memcpy(out + h * s.Np, in + h * s.N, s.N * sizeof(T));
    const int64_t filled = in ? s.N : 0;
    std::memset(out + h * s.Np + filled, 0, (s.Np - filled) * sizeof(T));
  }
}

template <class T>
void store_rows(T* out, const T* in, int64_t rows, const Sizes<T>& s) {
  for (int64_t h = 0; h < rows; ++h) std::memcpy(out + h * s.N, in + h * s.Np, s.N * sizeof(T));
}

// Calls f(h, number of heads) until all heads are done: kHeads at once as long as there are, then one by one.
template <class T, class F>
void each_heads(const Sizes<T>& s, F f) {
  int64_t h = 0;
  for (; h + kHeads <= s.R; h += kHeads) f(h, std::integral_constant<int, kHeads>{});
  for (; h < s.R; ++h) f(h, std::integral_constant<int, 1>{});
}

// H heads of rank_update, from X to `out`, which may be X. With `shrink`, a row of Np, it also does X(i) -= shrink(i)
// Y(i).
template <class T, int H>
void rank_update_heads(T* out, const T* X, const T* weights, const T* vectors, const T* shrink, const T* Y,
                       const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  for (int64_t i = 0; i < s.Np; i += kBlock<T>, X += kBlock<T> * s.W, out += kBlock<T> * s.W) {
    Vec<T> w[H][2];
    for (int h = 0; h < H; ++h)
      for (int u = 0; u < 2; ++u) w[h][u] = load(weights + h * s.Np + i + u * L);
    const Vec<T> lost0 = shrink ? load(shrink + i) : Vec<T>{}, lost1 = shrink ? load(shrink + i + L) : Vec<T>{};
    for (int64_t j = 0; j < s.W; ++j) {
      Vec<T> x0 = load(X + j * kBlock<T>), x1 = load(X + j * kBlock<T> + L);
      for (int h = 0; h < H; ++h) {
        x0 += w[h][0] * vectors[h * s.W + j];
        x1 += w[h][1] * vectors[h * s.W + j];
      }
      if (shrink) {
        const T* y = Y + i * s.W + j * kBlock<T>;
        x0 -= lost0 * load(y);
        x1 -= lost1 * load(y + L);
      }
      store(out + j * kBlock<T>, x0);
      store(out + j * kBlock<T> + L, x1);
    }
  }
}

// X(i) += sum_h weights[h](i) vectors[h] - shrink(i) Y(i); without `shrink`, only the sum.
template <class T>
void rank_update(T* X, const T* weights, const T* vectors, const Sizes<T>& s, const T* shrink = nullptr,
                 const T* Y = nullptr) {
  each_heads(s, [&](int64_t h, auto heads) {
    constexpr int H = decltype(heads)::value;
    rank_update_heads<T, H>(X, X, weights + h * s.Np, vectors + h * s.W, h + H == s.R ? shrink : nullptr, Y, s);
  });
}
// out(i) = X(i) + sum_h weights[h](i) vectors[h].
template <class T>
void rank_update_to(T* out, const T* X, const T* weights, const T* vectors, const Sizes<T>& s) {
  each_heads(s, [&](int64_t h, auto heads) {
    constexpr int H = decltype(heads)::value;
    rank_update_heads<T, H>(out, h ? out : X, weights + h * s.Np, vectors + h * s.W, nullptr, nullptr, s);
  });
}

template <class T, int H, bool SQUARES>
void slot_dot_heads(T* out, T* squares, const T* X, const T* vectors, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  for (int64_t i = 0; i < s.Np; i += kBlock<T>, X += kBlock<T> * s.W)
    for (int64_t first = 0; first < s.W; first += kColumns) {
      Vec<T> sum[H ? H : 1][2] = {}, square[2] = {};
      for (int64_t j = first, end = smaller(first + kColumns, s.W); j < end; ++j) {
        const Vec<T> x0 = load(X + j * kBlock<T>), x1 = load(X + j * kBlock<T> + L);
        for (int h = 0; h < H; ++h) {
          sum[h][0] += x0 * vectors[h * s.W + j];
          sum[h][1] += x1 * vectors[h * s.W + j];
        }
        if constexpr (SQUARES) square[0] += x0 * x0, square[1] += x1 * x1;
      }
      for (int u = 0; u < 2; ++u) {
        for (int h = 0; h < H; ++h) store_run<T>(out + h * s.Np + i + u * L, sum[h][u], first == 0);
        if constexpr (SQUARES) store_run<T>(squares + i + u * L, square[u], first == 0);
      }
    }
}

// Also `squares` (Np), the dot product of every slot with itself, unless it is null.
template <class T>
void slot_dot(T* out, const T* X, const T* vectors, const Sizes<T>& s, T* squares = nullptr) {
  each_heads(s, [&](int64_t h, auto heads) {
    constexpr int H = decltype(heads)::value;
    const auto dot = squares && h == 0 ? slot_dot_heads<T, H, true> : slot_dot_heads<T, H, false>;
    dot(out + h * s.Np, squares, X, vectors + h * s.W, s);
  });
}

}  // namespace
