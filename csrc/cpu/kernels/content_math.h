// Content addressing on one episode: norms, cosines and content weights, and the backward pass of a read. LRUA and the
// NTM share it.
//
// A memory X, or its gradient D, is of a type M: a pointer to slot blocks, or RowMajor. Rows of weights are padded to
// Np.
#pragma once

#include "../../args/shape.h"
#include "padded_row.h"
#include "row_major.h"
#include "slot_passes.h"
#include "slot_sum.h"
#include "vector_math.h"

namespace {

using mannkern::kEps;
using mannkern::kLongNorm;

// The norm of `count` numbers `stride` apart, scaled so that their squares do not overflow.
template <class T>
T scaled_norm(const T* x, int64_t count, int64_t stride) {
  T largest = 0, sum = 0;
  for (int64_t j = 0; j < count; ++j) {
    const T size = x[j * stride] < 0 ? -x[j * stride] : x[j * stride];
    largest = size > largest ? size : largest;
  }
  for (int64_t first = 0; first < count; first += kColumns) {
    T part = 0;
    for (int64_t j = first; j < smaller(first + kColumns, count); ++j)
      part += (x[j * stride] / largest) * (x[j * stride] / largest);
    sum += part;
  }
  return square_root(sum) * largest;
}

template <class T>
T at_least_eps(T norm) {
  return norm <= kEps<T> ? kEps<T> : norm;  // NaN stays NaN
}

template <class T>
T dot_product(const T* x, const T* y, int64_t count) {
  constexpr int L = Lanes<T>::L;
  Vec<T> total = {};
  int64_t j = 0;
  while (j + L <= count) {
    Vec<T> sum = {};
    for (const int64_t end = smaller(j + kColumns * L, count); j + L <= end; j += L) sum += load(x + j) * load(y + j);
    total += sum;
  }
  T sum = lane_sum<T>(total);
  for (; j < count; ++j) sum += x[j] * y[j];
  return sum;
}

// Unit keys k / max(|k|, eps) (R,W), and the norms max(|k|, eps) (R).
template <class T>
void normalise_keys(T* unit, T* norms, const T* keys, const Sizes<T>& s) {
  for (int64_t h = 0; h < s.R; ++h) {
    const T* k = keys + h * s.W;
    T sum = dot_product(k, k, s.W);
    if (sum > std::numeric_limits<T>::max()) sum = 0, norms[h] = scaled_norm(k, s.W, 1);
    else norms[h] = square_root(sum);
    norms[h] = at_least_eps(norms[h]);
    for (int64_t j = 0; j < s.W; ++j) unit[h * s.W + j] = k[j] / norms[h];
  }
}

// Turns a row of sums of squares into norms max(|X(i)|, eps). The norms of slots whose squares
// overflow are computed again, scaled.
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

// The norms max(|X(i)|, eps) of all slots.
template <class T>
void slot_norms(T* norm, const T* X, const Sizes<T>& s) {
  slot_dot_heads<T, 0, true>(nullptr, norm, X, nullptr, s);
  root_norms(norm, X, s);
}

// Cosines, in place from the dot products of unit keys and slots, and content weights softmax_i(b cos(k, X(i))). A null
// strength is 1.
template <class T>
void softmax_cosines(T* weights, T* cosine, const T* norm, const T* strength, const Sizes<T>& s) {
  const Row<T> team(s.N);
  for (int64_t h = 0; h < s.R; ++h) {
    T* row = cosine + h * s.Np;
    for (int64_t i = 0; i < s.Np; ++i) row[i] /= norm[i];
    mannkern::softmax(team, weights + h * s.Np, row, strength ? strength[h] : T(1));
  }
}

// Content weights and cosines (R,Np) of R keys, when the norms of X are known. `unit` and `key_norm` are scratch for
// (R,W) and R.
template <class T>
void content_weights(T* weights, T* cosine, T* unit, T* key_norm, const T* X, const T* norm, const T* key,
                     const T* strength, const Sizes<T>& s) {
  normalise_keys(unit, key_norm, key, s);
  slot_dot(cosine, X, unit, s);
  softmax_cosines(weights, cosine, norm, strength, s);
}

// As content_weights, when the norms of X (Np) are not known: it computes them in the same pass over X.
template <class T, class M>
void norms_and_content_weights(T* weights, T* cosine, T* norm, T* unit, T* key_norm, M X, const T* key,
                               const T* strength, const Sizes<T>& s) {
  normalise_keys(unit, key_norm, key, s);
  slot_dot(cosine, X, unit, s, norm);
  root_norms(norm, X, s);
  softmax_cosines(weights, cosine, norm, strength, s);
}

// As norms_and_content_weights after rank_update of X, in one pass over it where there are kHeads heads.
template <class T, class M>
void update_and_address(M X, const T* write_weights, const T* add, T* weights, T* cosine, T* norm, T* unit, T* key_norm,
                        const T* key, const T* strength, const Sizes<T>& s) {
  if constexpr (std::is_same_v<M, T*>) {
    if (s.R == kHeads) {
      normalise_keys(unit, key_norm, key, s);
      rank_update_dot(X, X, write_weights, add, cosine, norm, unit, s);
      root_norms(norm, X, s);
      return softmax_cosines(weights, cosine, norm, strength, s);
    }
  }
  rank_update(X, write_weights, add, s);
  norms_and_content_weights(weights, cosine, norm, unit, key_norm, X, key, strength, s);
}

// Scratch of read_backward.
template <class T>
struct ReadScratch {
  T *unit, *key_norm, *pull, *shrink, *part;  // (R,W), R, (R,Np), Np, (R,W)
};

// Backward of content weights w and of the read r = sum_i w(i) X(i), down to the cosines. `scratch` then has unit keys
// and pull, the gradient of unit key . X(i); shrink(i) X(i) is what the gradient of X(i) loses through its own norm.
// grad_weights (R,Np) is overwritten: on entry it is the gradient of w without what r gives. A null grad_read is zero;
// with a null grad_strength the strength's gradient is not computed.
template <class T, class ConstM>
void read_backward_cosines(T* grad_strength, T* grad_weights, const T* grad_read, ConstM X, const T* key,
                           const T* strength, const T* weights, const T* cosine, const T* norm,
                           const ReadScratch<T>& scratch, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const Row<T> team(s.N);
  normalise_keys(scratch.unit, scratch.key_norm, key, s);
  if (grad_read) {
    slot_dot(scratch.pull, X, grad_read, s);
    for (int64_t i = 0; i < s.R * s.Np; ++i) grad_weights[i] += scratch.pull[i];
  }
  std::memset(scratch.shrink, 0, s.Np * sizeof(T));
  for (int64_t h = 0; h < s.R; ++h) {
    const T b = strength ? mannkern::bounded(strength[h]) : T(1);
    const T *w = weights + h * s.Np, *cos = cosine + h * s.Np, *gw = grad_weights + h * s.Np;
    T* pull = scratch.pull + h * s.Np;
    const T mean = mannkern::weighted_mean(team, gw, w);
    const T center = grad_strength ? mannkern::weighted_mean(team, cos, w) : 0;
    Vec<T> grad_b = {};
    for (int64_t first = 0; first < s.Np; first += kRun<T>) {
      const int64_t end = run_end<T>(first, s.Np);
      Vec<T> sum = {};
      for (int64_t i = first; i < end; i += L) {
        const Vec<T> dz = load(w + i) * (load(gw + i) - mean), n = load(norm + i), inverse = 1 / n;
        sum += dz * (load(cos + i) - center);
        const Vec<T> of_dot = dz * b * inverse;
        store(pull + i, of_dot);
        store(scratch.shrink + i, load(scratch.shrink + i) + (n > kEps<T> ? of_dot * load(cos + i) : Vec<T>{}));
      }
      grad_b += sum;
    }
    if (grad_strength) grad_strength[h] = lane_sum<T>(grad_b);
  }
  for (int64_t i = 0; i < s.Np; i += L) {
    const Vec<T> n = load(norm + i), through_norm = load(scratch.shrink + i);
    store(scratch.shrink + i, n > kLongNorm<T> ? through_norm : through_norm / n);
  }
}

// The gradients of keys, in place from those of unit keys.
template <class T>
void unit_keys_backward(T* grad_key, const ReadScratch<T>& scratch, const Sizes<T>& s) {
  for (int64_t h = 0; h < s.R; ++h) {
    T *g = grad_key + h * s.W, *unit = scratch.unit + h * s.W;
    const T along = scratch.key_norm[h] > kEps<T> ? dot_product(g, unit, s.W) : 0;
    for (int64_t j = 0; j < s.W; ++j) g[j] = (g[j] - along * unit[j]) / scratch.key_norm[h];
  }
}

// A cosine of one column is a sign, whose gradient with respect to X(i) is 0; pull - shrink X(i) would leave rounding.
template <class T>
void drop_signs(T* pull, T* shrink, const T* norm, const Sizes<T>& s) {
  if (s.W > 1) return;
  for (int64_t i = 0; i < padded(s.N, kBlock<T>); ++i)
    if (norm[i] > kEps<T>) {
      shrink[i] = 0;
      for (int64_t h = 0; h < s.R; ++h) pull[h * s.Np + i] = 0;
    }
}

// The backward pass but for the gradient of X: that of X(i) is, summed over heads, weights(i) grad_read + pull(i) unit
// key - shrink(i) X(i), with pull, shrink and unit keys in `scratch`; shrink_long_slots follows, before they are used.
// Gradients of keys and strengths are written.
template <class T, class ConstM>
void read_backward_keys(T* grad_key, T* grad_strength, T* grad_weights, const T* grad_read, ConstM X, const T* key,
                        const T* strength, const T* weights, const T* cosine, const T* norm,
                        const ReadScratch<T>& scratch, const Sizes<T>& s) {
  read_backward_cosines(grad_strength, grad_weights, grad_read, X, key, strength, weights, cosine, norm, scratch, s);
  slot_sum(grad_key, X, scratch.pull, s);
  unit_keys_backward(grad_key, scratch, s);
  drop_signs(scratch.pull, scratch.shrink, norm, s);
}

// Subtracts shrink(i) X(i) / norm(i) from D where norms are above kLongNorm, and sets shrink(i) to 0 there.
template <class T, class M, class ConstM>
void shrink_long_slots(M D, ConstM X, const T* norm, T* shrink, const Sizes<T>& s) {
  Vec<T> longest = {};
  const int64_t end = padded(s.N, kBlock<T>);
  for (int64_t i = 0; i < end; i += Lanes<T>::L) longest = load(norm + i) > longest ? load(norm + i) : longest;
  if (!(lane_max<T>(longest) > kLongNorm<T>)) return;
  for (int64_t i = 0; i < s.N; ++i)
    if (norm[i] > kLongNorm<T>) {
      const auto d = slot_at(D, i, s);
      const auto x = slot_at(X, i, s);
      for (int64_t j = 0; j < s.W; ++j) d.at[j * d.stride] -= shrink[i] * (x.at[j * x.stride] / norm[i]);
      shrink[i] = 0;
    }
}

// The whole backward pass: the gradient of X is added to D.
template <class T, class M, class ConstM>
void read_backward(M D, T* grad_key, T* grad_strength, T* grad_weights, const T* grad_read, ConstM X, const T* key,
                   const T* strength, const T* weights, const T* cosine, const T* norm, const ReadScratch<T>& scratch,
                   const Sizes<T>& s) {
  read_backward_keys(grad_key, grad_strength, grad_weights, grad_read, X, key, strength, weights, cosine, norm, scratch,
                     s);
  shrink_long_slots(D, X, norm, scratch.shrink, s);
  if (grad_read) rank_update(D, weights, grad_read, s);
  rank_update(D, scratch.pull, scratch.unit, s, scratch.shrink, X);
}

}  // namespace
