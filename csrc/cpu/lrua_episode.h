// The equations of LRUA on one episode in blocks and padded rows: each once, shared by the pieces and the step.
#pragma once

#include <type_traits>

#include "../lrua.h"
#include "row.h"

namespace {

using mannkern::kEps;

inline float square_root(float x) { return __builtin_sqrtf(x); }
inline double square_root(double x) { return __builtin_sqrt(x); }
inline float exponential(float x) { return __builtin_expf(x); }
inline double exponential(double x) { return __builtin_exp(x); }

template <class T>
T sigmoid(T x) {
  const T e = exponential(x < 0 ? x : -x);
  return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

// |x| of `count` numbers `stride` apart, scaled so that their squares do not overflow.
template <class T>
T scaled_norm(const T* x, int64_t count, int64_t stride) {
  T largest = 0, sum = 0;
  for (int64_t j = 0; j < count; ++j) {
    const T size = x[j * stride] < 0 ? -x[j * stride] : x[j * stride];
    largest = size > largest ? size : largest;
  }
  for (int64_t j = 0; j < count; ++j) sum += (x[j * stride] / largest) * (x[j * stride] / largest);
  return square_root(sum) * largest;
}

template <class T>
T at_least_eps(T norm) {
  return norm > kEps<T> ? norm : kEps<T>;
}

// keys / max(|key|, eps), and those norms.
template <class T>
void normalise_keys(T* unit, T* norms, const T* keys, const Sizes<T>& s) {
  for (int64_t h = 0; h < s.R; ++h) {
    const T* k = keys + h * s.W;
    T sum = 0;
    for (int64_t j = 0; j < s.W; ++j) sum += k[j] * k[j];
    if (sum > std::numeric_limits<T>::max()) sum = 0, norms[h] = scaled_norm(k, s.W, 1);
    else norms[h] = square_root(sum);
    norms[h] = at_least_eps(norms[h]);
    for (int64_t j = 0; j < s.W; ++j) unit[h * s.W + j] = k[j] / norms[h];
  }
}

// max(|X(i)|, eps) of every slot.
template <class T>
void slot_norms(T* norm, const T* X, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  for (int64_t i = 0; i < s.Np; i += kBlock<T>, X += kBlock<T> * s.W) {
    Vec<T> sum[2] = {};
    for (int64_t j = 0; j < s.W; ++j)
      for (int u = 0; u < 2; ++u) {
        const Vec<T> x = load(X + j * kBlock<T> + u * L);
        sum[u] += x * x;
      }
    bool overflow = false;
    for (int u = 0; u < 2; ++u) {
      store(norm + i + u * L, sum[u]);
      overflow = overflow || lane_max<T>(sum[u]) > std::numeric_limits<T>::max();
    }
    for (int e = 0; e < kBlock<T>; ++e) {
      const bool scale = overflow && norm[i + e] > std::numeric_limits<T>::max();
      norm[i + e] = scale ? scaled_norm(X + e, s.W, kBlock<T>) : square_root(norm[i + e]);
    }
    for (int e = 0; e < kBlock<T>; ++e) norm[i + e] = at_least_eps(norm[i + e]);
  }
}

// softmax_i(b cos(k, X(i))) of each key, and the cosines, given the norms of X. `unit` and `key_norm` are scratch for
// (R, W) and R. strength null: 1.
template <class T>
void content(T* weights, T* cosine, T* unit, T* key_norm, const T* X, const T* norm, const T* key, const T* strength,
             const Sizes<T>& s) {
  const Row<T> team(s.N);
  normalise_keys(unit, key_norm, key, s);
  slot_dot(cosine, X, unit, s);
  for (int64_t h = 0; h < s.R; ++h) {
    T* row = cosine + h * s.Np;
    for (int64_t i = 0; i < s.Np; ++i) row[i] /= norm[i];
    mannkern::softmax(team, weights + h * s.Np, row, strength ? strength[h] : T(1));
  }
}

// Equations 2 to 4: cosine, norm and weights of the memory in X.
template <class T>
void address(T* weights, T* cosine, T* norm, T* unit, T* key_norm, const T* X, const T* key, const T* strength,
             const Sizes<T>& s) {
  slot_norms(norm, X, s);
  content(weights, cosine, unit, key_norm, X, norm, key, strength, s);
}

// What the backward pass of a read works in.
template <class T>
struct ReadScratch {
  T *unit, *key_norm, *pull, *shrink, *lanes;  // (R,W), R, (R,Np), Np, R W vectors
};

// Backward of `address` and of r = sum_i w(i) X(i). grad_weights (R,Np) holds the gradient of the weights, and is
// spent; D, the gradient of X, is added to. grad_read null: zero. grad_strength null: not wanted.
template <class T>
void read_backward(T* D, T* grad_key, T* grad_strength, T* grad_weights, const T* grad_read, const T* X, const T* key,
                   const T* strength, const T* weights, const T* cosine, const T* norm, const ReadScratch<T>& scratch,
                   const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const Row<T> team(s.N);
  normalise_keys(scratch.unit, scratch.key_norm, key, s);
  if (grad_read) {
    slot_dot(scratch.pull, X, grad_read, s);
    for (int64_t i = 0; i < s.R * s.Np; ++i) grad_weights[i] += scratch.pull[i];
    rank_update(D, weights, grad_read, s);
  }
  // pull: the gradient of unit key . X(i).  shrink: what X(i) loses through its own norm.
  std::memset(scratch.shrink, 0, s.Np * sizeof(T));
  for (int64_t h = 0; h < s.R; ++h) {
    const T b = strength ? strength[h] : T(1);
    const T *w = weights + h * s.Np, *cos = cosine + h * s.Np, *gw = grad_weights + h * s.Np;
    T* pull = scratch.pull + h * s.Np;
    const T m = mannkern::weighted_mean(team, gw, w), center = grad_strength ? mannkern::weighted_mean(team, cos, w) : 0;
    Vec<T> turn = {};
    for (int64_t i = 0; i < s.Np; i += L) {
      const Vec<T> dz = load(w + i) * (load(gw + i) - m), slope = dz * load(cos + i), n = load(norm + i);
      turn += dz * (load(cos + i) - center);
      store(pull + i, dz * b / n);
      const Vec<T> kept = n > kEps<T> ? slope * b / n : Vec<T>{};
      store(scratch.shrink + i, load(scratch.shrink + i) + kept / n);
    }
    if (grad_strength) grad_strength[h] = lane_sum<T>(turn);
  }
  slot_sum(grad_key, X, scratch.pull, scratch.lanes, s);
  for (int64_t h = 0; h < s.R; ++h) {
    T *g = grad_key + h * s.W, *unit = scratch.unit + h * s.W, along = 0;
    for (int64_t j = 0; j < s.W; ++j) along += g[j] * unit[j];
    if (!(scratch.key_norm[h] > kEps<T>)) along = 0;
    for (int64_t j = 0; j < s.W; ++j) g[j] = (g[j] - along * unit[j]) / scratch.key_norm[h];
  }
  if (s.W == 1)  // a cosine of one column is a sign, without a gradient; the difference below would leave rounding
    for (int64_t i = 0; i < s.Np; ++i)
      if (norm[i] > kEps<T>) {
        scratch.shrink[i] = 0;
        for (int64_t h = 0; h < s.R; ++h) scratch.pull[h * s.Np + i] = 0;
      }
  rank_update(D, scratch.pull, scratch.unit, s, scratch.shrink, X);
}

// Column `slot` of the blocks to zero.
template <class T>
void clear_slot(T* X, int64_t slot, const Sizes<T>& s) {
  T* lane = X + slot / kBlock<T> * kBlock<T> * s.W + slot % kBlock<T>;
  for (int64_t j = 0; j < s.W; ++j) lane[j * kBlock<T>] = 0;
}

template <class T>
using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
template <class T>
constexpr Int<T> kTaken = std::numeric_limits<Int<T>>::max();  // the rank of a slot already found, and of padding

// Order-preserving integers of usages: -0 equals 0, NaN above every number and below kTaken.
template <class T>
IntVec<T> usage_rank(Vec<T> u) {
  const IntVec<T> b = bits<IntVec<T>>(u + T(0));
  const IntVec<T> ordered = b ^ ((b >> int(8 * sizeof(T) - 1)) & kTaken<T>);
  return u == u ? ordered : IntVec<T>{} + (kTaken<T> - 1);
}

// The n slots of smallest usage, ascending. `rank` is scratch for Np integers as wide as T.
template <class T>
void least_used(int64_t* slots, const T* usage, int64_t n, T* rank, const Sizes<T>& s) {
  using I = IntVec<T>;
  constexpr int L = Lanes<T>::L;
  if (n > 8) return mannkern::sort_least_used(usage, s.N, n, slots);
  for (int64_t i = 0; i < s.Np; i += L) {
    I r;
    if (i + L <= s.N)
      r = usage_rank<T>(load(usage + i));
    else {
      Vec<T> u = {};
      for (int e = 0; e < L; ++e) u[e] = i + e < s.N ? usage[i + e] : T(0);
      r = usage_rank<T>(u);
      for (int e = 0; e < L; ++e) r[e] = i + e < s.N ? r[e] : kTaken<T>;
    }
    std::memcpy(rank + i, &r, sizeof r);
  }
  for (int64_t found = 0; found < n; ++found) {
    I best = I{} + kTaken<T>, where = {};
    for (int64_t i = 0; i < s.Np; i += L) {
      const I r = bits<I>(load(rank + i)), smaller = r < best;
      best = smaller ? r : best;
      where = smaller ? I{} + Int<T>(i) : where;
    }
    Int<T> value = kTaken<T>;
    int64_t slot = s.N;
    for (int e = 0; e < L; ++e) {
      const int64_t at = where[e] + e;
      if (best[e] < value || (best[e] == value && at < slot)) value = best[e], slot = at;
    }
    slots[found] = slot;
    std::memcpy(rank + slot, &kTaken<T>, sizeof(T));
  }
}

}  // namespace
