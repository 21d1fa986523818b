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

// Factors and terms of all heads at column j of a vector of slots.
template <class T>
struct Column {
  const T *weights, *erase, *add;
  const Sizes<T>& s;
  void bring(Vec<T>& keep, Vec<T>& gain, int64_t i, int64_t j) const {
    for (int64_t h = 0; h < s.R; ++h)
      mannkern::write_head<Row<T>>(keep, gain, load(weights + h * s.Np + i), erase[h * s.W + j], add[h * s.W + j]);
  }
};

// M'(i) = M(i) prod_h (1 - w[h](i) e[h]) + sum_h w[h](i) a[h]; Y may be X.
template <class T>
void erase_write(T* Y, const T* X, const T* weights, const T* erase, const T* add, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const Column<T> heads = {weights, erase, add, s};
  for (int64_t i = 0; i < s.Np; i += kBlock<T>, X += kBlock<T> * s.W, Y += kBlock<T> * s.W)
    for (int64_t j = 0; j < s.W; ++j)
      for (int u = 0; u < 2; ++u) {
        Vec<T> keep = Vec<T>{} + T(1), gain = {};
        heads.bring(keep, gain, i + u * L, j);
        store(Y + j * kBlock<T> + u * L, load(X + j * kBlock<T> + u * L) * keep + gain);
      }
}

// Its backward. D, the gradient of M', becomes that of M; grad_weights, rows (R,Np), are added to. `lanes` is scratch
// for 2 R W vectors, `factors` for 2 R.
template <class T>
void erase_write_backward(T* D, T* grad_weights, T* grad_erase, T* grad_add, const T* X, const T* weights,
                          const T* erase, const T* add, T* lanes, T* factors, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const int64_t R = s.R, W = s.W;
  T *erase_lanes = lanes, *add_lanes = lanes + R * W * L, *keep = factors, *before = factors + R * L;
  std::memset(lanes, 0, 2 * R * W * L * sizeof(T));
  for (int64_t i = 0; i < s.Np; i += L) {
    const int64_t block = i / kBlock<T> * kBlock<T> * W + i % kBlock<T>;
    for (int64_t j = 0; j < W; ++j) {
      const Vec<T> d = load(D + block + j * kBlock<T>), x = load(X + block + j * kBlock<T>);
      Vec<T> product = Vec<T>{} + T(1);
      for (int64_t h = 0; h < R; ++h) {  // each head's factor, and the product of those before it
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
  sum_lanes(grad_erase, erase_lanes, R * W);
  sum_lanes(grad_add, add_lanes, R * W);
}

}  // namespace
