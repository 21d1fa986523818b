// The equations of the NTM on one episode in blocks and padded rows: each once, shared by the pieces and the episode.
#pragma once

#include "../ntm.h"
#include "lrua_episode.h"

namespace {

using mannkern::HeadGradients;
using mannkern::Heads;

// What addressing works in.
template <class T>
struct AddressScratch {
  T *moved, *shifted, *grad_shifted;  // w_g and the gradient of w_s, settled, and w_s: one row each
  ReadScratch<T> read;
};

// Equations 5 to 9 of s.R heads on the memory in X: weights, content weights and cosines, rows (R,Np).
template <class T>
void locate(T* weights, T* contents, T* cosine, const T* X, const T* norm, const T* previous, const Heads<T>& ask,
            const AddressScratch<T>& scratch, const Sizes<T>& s, const Row<T>& team, int64_t S) {
  content(contents, cosine, scratch.read.unit, scratch.read.key_norm, X, norm, ask.key, ask.strength, s);
  for (int64_t h = 0; h < s.R; ++h) {
    T* w = weights + h * s.Np;
    mannkern::interpolate(team, scratch.moved, contents + h * s.Np, previous + h * s.Np, ask.gate[h]);
    mannkern::shift(team, w, scratch.moved, ask.shift + h * S, S);
    mannkern::sharpen(team, w, w, ask.sharpness[h]);
  }
}

// Its backward for grad_weights, rows (R,Np), which are spent. D, the gradient of X, is added to.
template <class T>
void locate_backward(T* D, T* grad_previous, const HeadGradients<T>& grad, T* grad_weights, const T* X, const T* norm,
                     const T* previous, const Heads<T>& ask, const T* weights, const T* contents, const T* cosine,
                     const AddressScratch<T>& scratch, const Sizes<T>& s, const Row<T>& team, int64_t S) {
  for (int64_t h = 0; h < s.R; ++h) {
    const int64_t at = h * s.Np;
    const T *shift = ask.shift + h * S, g = ask.gate[h];
    T* d = grad_weights + at;
    mannkern::interpolate(team, scratch.moved, contents + at, previous + at, g);
    mannkern::shift(team, scratch.shifted, scratch.moved, shift, S);
    mannkern::sharpen_backward(team, scratch.grad_shifted, grad.sharpness[h], d, weights + at, scratch.shifted,
                               ask.sharpness[h]);
    mannkern::shift_backward(team, d, grad.shift + h * S, scratch.grad_shifted, scratch.moved, shift, S);
    mannkern::interpolate_backward(team, d, grad_previous + at, grad.gate[h], d, contents + at, previous + at, g);
  }
  read_backward(D, grad.key, grad.strength, grad_weights, static_cast<const T*>(nullptr), X, ask.key, ask.strength,
                contents, cosine, norm, scratch.read, s);
}

// H heads where their number is fixed (0: it is s.R), so that their loop unrolls.
template <class T, int H>
void erase_write_heads(T* Y, const T* X, const T* weights, const T* erase, const T* add, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const int64_t heads = H ? H : s.R;
  for (int64_t i = 0; i < s.Np; i += kBlock<T>, X += kBlock<T> * s.W, Y += kBlock<T> * s.W)
    for (int64_t j = 0; j < s.W; ++j)
      for (int u = 0; u < 2; ++u) {
        Vec<T> keep = Vec<T>{} + T(1), gain = {};
        for (int64_t h = 0; h < heads; ++h)
          mannkern::write_head<Row<T>>(keep, gain, load(weights + h * s.Np + i + u * L), erase[h * s.W + j],
                                       add[h * s.W + j]);
        store(Y + j * kBlock<T> + u * L, load(X + j * kBlock<T> + u * L) * keep + gain);
      }
}

// M'(i) = M(i) prod_h (1 - w[h](i) e[h]) + sum_h w[h](i) a[h]; Y may be X.
template <class T>
void erase_write(T* Y, const T* X, const T* weights, const T* erase, const T* add, const Sizes<T>& s) {
  if (s.R == 1) erase_write_heads<T, 1>(Y, X, weights, erase, add, s);
  else erase_write_heads<T, 0>(Y, X, weights, erase, add, s);
}

// The backward pass of one head at columns j to j + J, which stay in registers.
template <class T, int J>
void erase_write_backward_columns(T* D, T* grad_weights, T* erase_lanes, T* add_lanes, const T* X, const T* weights,
                                  const T* erase, const T* add, int64_t j, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  Vec<T> erased[J] = {}, added[J] = {};
  for (int64_t i = 0; i < s.Np; i += L) {
    const int64_t block = i / kBlock<T> * kBlock<T> * s.W + i % kBlock<T> + j * kBlock<T>;
    const Vec<T> w = load(weights + i);
    Vec<T> grad = load(grad_weights + i);
    for (int c = 0; c < J; ++c) {
      const Vec<T> d = load(D + block + c * kBlock<T>), changed = d * load(X + block + c * kBlock<T>);
      grad += d * add[j + c] - changed * erase[j + c];
      erased[c] -= w * changed;
      added[c] += w * d;
      store(D + block + c * kBlock<T>, d * (1 - w * erase[j + c]));
    }
    store(grad_weights + i, grad);
  }
  for (int c = 0; c < J; ++c) store(erase_lanes + (j + c) * L, erased[c]), store(add_lanes + (j + c) * L, added[c]);
}

// Of any number of heads: the factors of the others are products of those before and those after a head.
template <class T>
void erase_write_backward_heads(T* D, T* grad_weights, T* erase_lanes, T* add_lanes, const T* X, const T* weights,
                                const T* erase, const T* add, T* factors, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const int64_t R = s.R, W = s.W;
  T *keep = factors, *before = factors + R * L;
  std::memset(erase_lanes, 0, R * W * L * sizeof(T));
  std::memset(add_lanes, 0, R * W * L * sizeof(T));
  for (int64_t i = 0; i < s.Np; i += L) {
    const int64_t block = i / kBlock<T> * kBlock<T> * W + i % kBlock<T>;
    for (int64_t j = 0; j < W; ++j) {
      const Vec<T> d = load(D + block + j * kBlock<T>), x = load(X + block + j * kBlock<T>);
      Vec<T> product = Vec<T>{} + T(1);
      for (int64_t h = 0; h < R; ++h) {
        const Vec<T> factor = 1 - load(weights + h * s.Np + i) * erase[h * W + j];
        store(before + h * L, product);
        store(keep + h * L, factor);
        product *= factor;
      }
      Vec<T> after = d * x;  // times the factors of the heads after h
      for (int64_t h = R - 1; h >= 0; --h) {
        T *w_row = grad_weights + h * s.Np + i, *e = erase_lanes + (h * W + j) * L, *a = add_lanes + (h * W + j) * L;
        const Vec<T> w = load(weights + h * s.Np + i), others = after * load(before + h * L);
        store(w_row, load(w_row) + d * add[h * W + j] - others * erase[h * W + j]);
        store(e, load(e) - w * others);
        store(a, load(a) + w * d);
        after *= load(keep + h * L);
      }
      store(D + block + j * kBlock<T>, d * product);
    }
  }
}

// Backward of erase_write. D, the gradient of M', becomes that of M; grad_weights, rows (R,Np), are added to. `lanes` is
// scratch for 2 R W vectors, `factors` for 2 R.
template <class T>
void erase_write_backward(T* D, T* grad_weights, T* grad_erase, T* grad_add, const T* X, const T* weights,
                          const T* erase, const T* add, T* lanes, T* factors, const Sizes<T>& s) {
  constexpr int J = 4;
  T *erase_lanes = lanes, *add_lanes = lanes + s.R * s.W * Lanes<T>::L;
  if (s.R == 1) {
    int64_t j = 0;
    for (; j + J <= s.W; j += J)
      erase_write_backward_columns<T, J>(D, grad_weights, erase_lanes, add_lanes, X, weights, erase, add, j, s);
    for (; j < s.W; ++j)
      erase_write_backward_columns<T, 1>(D, grad_weights, erase_lanes, add_lanes, X, weights, erase, add, j, s);
  } else {
    erase_write_backward_heads(D, grad_weights, erase_lanes, add_lanes, X, weights, erase, add, factors, s);
  }
  sum_lanes(grad_erase, erase_lanes, s.R * s.W);
  sum_lanes(grad_add, add_lanes, s.R * s.W);
}

}  // namespace
