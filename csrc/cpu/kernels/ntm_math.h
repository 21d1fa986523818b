// The equations of the NTM on one episode in slot blocks and padded rows: addressing, erase and add. Single operations
// and the episode share them. docs/equations.md defines them by name; those of one row of weights are in row_math.h.
#pragma once

#include "../../args/ntm.h"
#include "content_math.h"

namespace {

using mannkern::HeadGradients;
using mannkern::Heads;

// Scratch of addressing.
template <class T>
struct AddressScratch {
  T *moved, *shifted, *grad_shifted;  // w_g, w_s and the gradient of w_s, a row each; w_g and the gradient have a halo
  ReadScratch<T> read;
};

// Addressing behind the content weights: interpolation, shift and sharpen.
template <class T>
void locate(T* weights, const T* contents, const T* previous, const Heads<T>& heads, const AddressScratch<T>& scratch,
            const Sizes<T>& s, const Row<T>& team, int64_t S) {
  for (int64_t h = 0; h < s.R; ++h) {
    T* w = weights + h * s.Np;
    mannkern::interpolate(team, scratch.moved, contents + h * s.Np, previous + h * s.Np, heads.gate[h]);
    mannkern::shift(team, w, scratch.moved, heads.shift + h * S, S);
    mannkern::sharpen(team, w, w, heads.sharpness[h]);
  }
}

// Addressing: the weights of s.R heads on the memory X, by content weights, interpolation, shift and sharpen. It also
// writes the content weights and cosines, which backward reads. All are (R,Np).
template <class T>
void address(T* weights, T* contents, T* cosine, const T* X, const T* norm, const T* previous, const Heads<T>& heads,
             const AddressScratch<T>& scratch, const Sizes<T>& s, const Row<T>& team, int64_t S) {
  content_weights(contents, cosine, scratch.read.unit, scratch.read.key_norm, X, norm, heads.key, heads.strength, s);
  locate(weights, contents, previous, heads, scratch, s, team, S);
}

// Backward of address, from grad_weights (R,Np), which is overwritten. All gradients are written but that of X, which
// follows from what is left in scratch.read, as read_backward_keys says.
template <class T>
void address_backward(T* grad_previous, const HeadGradients<T>& grad, T* grad_weights, const T* X, const T* norm,
                      const T* previous, const Heads<T>& heads, const T* weights, const T* contents, const T* cosine,
                      const AddressScratch<T>& scratch, const Sizes<T>& s, const Row<T>& team, int64_t S) {
  for (int64_t h = 0; h < s.R; ++h) {
    const int64_t at = h * s.Np;
    const T *shift = heads.shift + h * S, g = heads.gate[h];
    T* d = grad_weights + at;
    mannkern::interpolate(team, scratch.moved, contents + at, previous + at, g);
    mannkern::shift(team, scratch.shifted, scratch.moved, shift, S);
    mannkern::sharpen_backward(team, scratch.grad_shifted, grad.sharpness[h], d, weights + at, scratch.shifted,
                               heads.sharpness[h]);
    mannkern::shift_backward(team, d, grad.shift + h * S, scratch.grad_shifted, scratch.moved, shift, S);
    mannkern::interpolate_backward(team, d, grad_previous + at, grad.gate[h], d, contents + at, previous + at, g);
  }
  read_backward_keys(grad.key, grad.strength, grad_weights, static_cast<const T*>(nullptr), X, heads.key,
                     heads.strength, contents, cosine, norm, scratch.read, s);
}

// Erase and add of H heads. H is a compile-time constant, so that the loop over heads unrolls; H = 0 stands for s.R
// heads. With DOT it is one pass with the dot products of each slot of Y with one unit key and with itself.
template <class T, int H, bool DOT>
void erase_write_heads(T* Y, const T* X, const T* weights, const T* erase, const T* add, T* dot, T* squares,
                       const T* unit, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const int64_t heads = H ? H : s.R;
  for (int64_t i = 0; i < s.Np; i += kBlock<T>, X += kBlock<T> * s.W, Y += kBlock<T> * s.W) {
    Vec<T> w[H ? H : 1][2];
    for (int h = 0; h < H; ++h)
      for (int u = 0; u < 2; ++u) w[h][u] = load(weights + h * s.Np + i + u * L);
    for (int64_t first = 0; first < s.W; first += kColumns) {
      Vec<T> along[2] = {}, square[2] = {};
      for (int64_t j = first, end = smaller(first + kColumns, s.W); j < end; ++j) {
        Vec<T> factor[2] = {Vec<T>{} + T(1), Vec<T>{} + T(1)}, term[2] = {};
        for (int64_t h = 0; h < heads; ++h) {
          const T e = erase[h * s.W + j], a = add[h * s.W + j];
          for (int u = 0; u < 2; ++u) {
            const Vec<T> weight = H ? w[h][u] : load(weights + h * s.Np + i + u * L);
            mannkern::erase_and_add<Row<T>>(factor[u], term[u], weight, e, a);
          }
        }
        for (int u = 0; u < 2; ++u) {
          const Vec<T> y = load(X + j * kBlock<T> + u * L) * factor[u] + term[u];
          store(Y + j * kBlock<T> + u * L, y);
          if constexpr (DOT) along[u] += y * unit[j], square[u] += y * y;
        }
      }
      for (int u = 0; DOT && u < 2; ++u) {
        store_run<T>(dot + i + u * L, along[u], first == 0);
        store_run<T>(squares + i + u * L, square[u], first == 0);
      }
    }
  }
}

// Erase and add: Y(i) = X(i) prod_h (1 - w[h](i) e[h]) + sum_h w[h](i) a[h]; Y may be X.
template <class T>
void erase_write(T* Y, const T* X, const T* weights, const T* erase, const T* add, const Sizes<T>& s) {
  const auto heads = s.R == 1 ? erase_write_heads<T, 1, false> : erase_write_heads<T, 0, false>;
  heads(Y, X, weights, erase, add, nullptr, nullptr, nullptr, s);
}

// Backward of erase and add with one head, for columns j to j + J, whose sums over slots `first` to `end` stay in
// registers. `part` (end - first) gets what they add to the gradient of the weights.
template <class T, int J>
void erase_write_backward_columns(T* D, T* part, T* erase_lanes, T* add_lanes, const T* X, const T* weights,
                                  const T* erase, const T* add, int64_t first, int64_t end, int64_t j,
                                  const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  Vec<T> erased[J] = {}, added[J] = {};
  for (int64_t i = first; i < end; i += L) {
    const int64_t block = i / kBlock<T> * kBlock<T> * s.W + i % kBlock<T> + j * kBlock<T>;
    const Vec<T> w = load(weights + i);
    Vec<T> grad = load(part + i - first);
    for (int c = 0; c < J; ++c) {
      const Vec<T> d = load(D + block + c * kBlock<T>), changed = d * load(X + block + c * kBlock<T>);
      grad += d * add[j + c] - changed * erase[j + c];
      erased[c] -= w * changed;
      added[c] += w * d;
      store(D + block + c * kBlock<T>, d * (1 - w * erase[j + c]));
    }
    store(part + i - first, grad);
  }
  for (int c = 0; c < J; ++c) store(erase_lanes + (j + c) * L, erased[c]), store(add_lanes + (j + c) * L, added[c]);
}

// Backward of erase and add with one head, for slots `first` to `end`, at most kRun.
template <class T>
void erase_write_backward_head(T* D, T* grad_weights, T* erase_lanes, T* add_lanes, const T* X, const T* weights,
                               const T* erase, const T* add, int64_t first, int64_t end, const Sizes<T>& s) {
  constexpr int J = MANNKERN_BYTES >= 64 ? 8 : 4;  // 2 J sums in 32 or 16 registers
  T part[kRun<T>];
  for (int64_t j = 0; j < s.W;) {
    const int64_t stop = smaller(j + kColumns, s.W);
    std::memset(part, 0, (end - first) * sizeof(T));
    for (; j + J <= stop; j += J)
      erase_write_backward_columns<T, J>(D, part, erase_lanes, add_lanes, X, weights, erase, add, first, end, j, s);
    for (; J > 4 && j + 4 <= stop; j += 4)
      erase_write_backward_columns<T, 4>(D, part, erase_lanes, add_lanes, X, weights, erase, add, first, end, j, s);
    for (; j < stop; ++j)
      erase_write_backward_columns<T, 1>(D, part, erase_lanes, add_lanes, X, weights, erase, add, first, end, j, s);
    for (int64_t i = first; i < end; ++i) grad_weights[i] += part[i - first];
  }
}

// Adds a vector of each head, the sum of a run of columns, to the rows of Np at `rows`, and clears it.
template <class T>
void add_part(T* rows, T* part, int64_t R, const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  for (int64_t h = 0; h < R; ++h, rows += s.Np, part += L) {
    store(rows, load(rows) + load(part));
    store(part, Vec<T>{});
  }
}

// Backward of erase and add with any number of heads. The product of the other heads' factors is the product over the
// heads before times the product over the heads after. Dividing the product of all would fail for a factor of 0.
template <class T>
void erase_write_backward_heads(T* D, T* grad_weights, T* erase_lanes, T* add_lanes, const T* X, const T* weights,
                                const T* erase, const T* add, T* factors, int64_t first, int64_t end,
                                const Sizes<T>& s) {
  constexpr int L = Lanes<T>::L;
  const int64_t R = s.R, W = s.W;
  T *own = factors, *before = factors + R * L, *part = before + R * L;
  std::memset(erase_lanes, 0, R * W * L * sizeof(T));
  std::memset(add_lanes, 0, R * W * L * sizeof(T));
  std::memset(part, 0, R * L * sizeof(T));
  for (int64_t i = first; i < end; i += L) {
    const int64_t block = i / kBlock<T> * kBlock<T> * W + i % kBlock<T>;
    for (int64_t j = 0; j < W; ++j) {
      if (j % kColumns == 0) add_part(grad_weights + i, part, R, s);
      const Vec<T> d = load(D + block + j * kBlock<T>), x = load(X + block + j * kBlock<T>);
      Vec<T> product = Vec<T>{} + T(1);
      for (int64_t h = 0; h < R; ++h) {
        const Vec<T> factor = 1 - load(weights + h * s.Np + i) * erase[h * W + j];
        store(before + h * L, product);
        store(own + h * L, factor);
        product *= factor;
      }
      Vec<T> after = d * x;  // times the product of the factors of the heads after h
      for (int64_t h = R - 1; h >= 0; --h) {
        T *p = part + h * L, *e = erase_lanes + (h * W + j) * L, *a = add_lanes + (h * W + j) * L;
        const Vec<T> w = load(weights + h * s.Np + i), others = after * load(before + h * L);
        store(p, load(p) + d * add[h * W + j] - others * erase[h * W + j]);
        store(e, load(e) - w * others);
        store(a, load(a) + w * d);
        after *= load(own + h * L);
      }
      store(D + block + j * kBlock<T>, d * product);
    }
    add_part(grad_weights + i, part, R, s);
  }
}

// Backward of erase_write. D is in place: on entry the gradient of the memory after the write, on exit of the memory
// before it. The gradient of the weights is added to grad_weights (R,Np). `lanes` is scratch for 2 R W vectors,
// `factors` for 3 R.
template <class T>
void erase_write_backward(T* D, T* grad_weights, T* grad_erase, T* grad_add, const T* X, const T* weights,
                          const T* erase, const T* add, T* lanes, T* factors, const Sizes<T>& s) {
  T *erase_lanes = lanes, *add_lanes = lanes + s.R * s.W * Lanes<T>::L;
  for (int64_t first = 0; first < s.Np; first += kRun<T>) {
    const int64_t end = run_end<T>(first, s.Np);
    if (s.R == 1)
      erase_write_backward_head(D, grad_weights, erase_lanes, add_lanes, X, weights, erase, add, first, end, s);
    else
      erase_write_backward_heads(D, grad_weights, erase_lanes, add_lanes, X, weights, erase, add, factors, first, end,
                                 s);
    sum_lanes(grad_erase, erase_lanes, s.R * s.W, first > 0);
    sum_lanes(grad_add, add_lanes, s.R * s.W, first > 0);
  }
}

}  // namespace
