// The equations of LRUA on one episode with padded rows: each once, shared by the pieces and the step.
//
// A memory, X or its gradient D, is of type M: T* in blocks, or Flat.
#pragma once

#include <type_traits>

#include "../lrua.h"
#include "flat.h"
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

template <class T>
T sum_of_squares(const T* x, int64_t count) {
  constexpr int L = Lanes<T>::L;
  Vec<T> lanes = {};
  int64_t j = 0;
  for (; j + L <= count; j += L) lanes += load(x + j) * load(x + j);
  T sum = lane_sum<T>(lanes);
  for (; j < count; ++j) sum += x[j] * x[j];
  return sum;
}

// keys / max(|key|, eps), and those norms.
template <class T>
void normalise_keys(T* unit, T* norms, const T* keys, const Sizes<T>& s) {
  for (int64_t h = 0; h < s.R; ++h) {
    const T* k = keys + h * s.W;
    T sum = sum_of_squares(k, s.W);
    if (sum > std::numeric_limits<T>::max()) sum = 0, norms[h] = scaled_norm(k, s.W, 1);
    else norms[h] = square_root(sum);
    norms[h] = at_least_eps(norms[h]);
    for (int64_t j = 0; j < s.W; ++j) unit[h * s.W + j] = k[j] / norms[h];
  }
}

// Sums of squares of every slot to max(|X(i)|, eps).
template <class T, class M>
void root_norms(T* norm, M X, const Sizes<T>& s) {
  Vec<T> largest = {};
  for (int64_t i = 0; i < s.Np; i += Lanes<T>::L) largest = load(norm + i) > largest ? load(norm + i) : largest;
  for (int64_t i = 0; i < s.Np; ++i) norm[i] = at_least_eps(square_root(norm[i]));
  if (!(lane_max<T>(largest) > std::numeric_limits<T>::max())) return;
  for (int64_t i = 0; i < s.N; ++i)
    if (norm[i] > std::numeric_limits<T>::max()) {
      const auto slot = slot_at(X, i, s);
      norm[i] = scaled_norm(static_cast<const T*>(slot.at), s.W, slot.stride);
    }
}

// max(|X(i)|, eps) of every slot.
template <class T>
void slot_norms(T* norm, const T* X, const Sizes<T>& s) {
  slot_dot_heads<T, 0, true>(nullptr, norm, X, nullptr, s);
  root_norms(norm, X, s);
}

// Weights softmax_i(b cos(k, X(i))) and cosines, of products of unit keys and slots. strength null: 1.
template <class T>
void weigh(T* weights, T* cosine, const T* norm, const T* strength, const Sizes<T>& s) {
  const Row<T> team(s.N);
  for (int64_t h = 0; h < s.R; ++h) {
    T* row = cosine + h * s.Np;
    for (int64_t i = 0; i < s.Np; ++i) row[i] /= norm[i];
    mannkern::softmax(team, weights + h * s.Np, row, strength ? strength[h] : T(1));
  }
}

// Those of each key, given the norms of X. `unit` and `key_norm` are scratch for (R, W) and R.
template <class T>
void content(T* weights, T* cosine, T* unit, T* key_norm, const T* X, const T* norm, const T* key, const T* strength,
             const Sizes<T>& s) {
  normalise_keys(unit, key_norm, key, s);
  slot_dot(cosine, X, unit, s);
  weigh(weights, cosine, norm, strength, s);
}

// Equations 2 to 4: cosine, norm and weights of the memory in X.
template <class T, class M>
void address(T* weights, T* cosine, T* norm, T* unit, T* key_norm, M X, const T* key, const T* strength,
             const Sizes<T>& s) {
  normalise_keys(unit, key_norm, key, s);
  slot_dot(cosine, X, unit, s, norm);
  root_norms(norm, X, s);
  weigh(weights, cosine, norm, strength, s);
}

// What the backward pass of a read works in.
template <class T>
struct ReadScratch {
  T *unit, *key_norm, *pull, *shrink, *lanes;  // (R,W), R, (R,Np), Np, R W vectors
};

// Backward of `address` and of r = sum_i w(i) X(i). grad_weights (R,Np) holds the gradient of the weights, and is
// spent; D, the gradient of X, is added to. grad_read null: zero. grad_strength null: not wanted.
template <class T, class M, class ConstM>
void read_backward(M D, T* grad_key, T* grad_strength, T* grad_weights, const T* grad_read, ConstM X, const T* key,
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

// Slot i to zero.
template <class T, class M>
void clear_slot(M X, int64_t i, const Sizes<T>& s) {
  const auto slot = slot_at(X, i, s);
  for (int64_t j = 0; j < s.W; ++j) slot.at[j * slot.stride] = 0;
}

// Equation 7: the slot `reset` is emptied (-1: none), and every head adds what it writes.
template <class T, class M>
void write(M X, const T* weights, const T* add, int64_t reset, const Sizes<T>& s) {
  if (reset >= 0) clear_slot(X, reset, s);
  rank_update(X, weights, add, s);
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
