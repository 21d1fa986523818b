// A step of LRUA on one episode with padded rows, in place: what lrua_step, the scan and MANN's episode share.
#pragma once

#include "lrua_episode.h"

namespace {

using mannkern::Asked;
using mannkern::AskedGradients;
using mannkern::Rule;

// What a step leaves for its backward pass beside the memory: rows padded to Np, behind each other.
template <class T>
struct Rows {
  T *read_weights, *write_weights, *cosine, *norm;  // (R,Np) three times, (Np)
};
template <class T>
int64_t rows_size(const Sizes<T>& s) {
  return (3 * s.R + 1) * s.Np;
}
template <class T, class P>  // P: T or const T
Rows<P> rows_at(P* at, const Sizes<T>& s) {
  return {at, at + s.R * s.Np, at + 2 * s.R * s.Np, at + 3 * s.R * s.Np};
}

// Equation 6: a write goes where was read last, and to the least used slots.
template <class T>
void write_weights(T* w, const T* previous, const T* gate, const int64_t* slots, const Rule& rule, const Sizes<T>& s) {
  for (int64_t h = 0; h < s.R; ++h) {
    T* row = w + h * s.Np;
    const T open = sigmoid(gate[h]), closed = sigmoid(-gate[h]);
    for (int64_t i = 0; i < s.Np; ++i) row[i] = open * previous[h * s.Np + i];
    if (rule.per_head) row[slots[h % rule.n]] += closed;
    else for (int64_t l = 0; l < rule.n; ++l) row[slots[l]] += closed;
  }
}

// Equations 2 to 8. X becomes the new memory; `previous` (R,Np) are the read weights before, usage_out may be usage. read
// null: not wanted.
template <class T, class M>
void step(M X, const Rows<T>& rows, int64_t* slots, T* usage_out, T* read, const T* previous, const T* usage,
          const Asked<T>& asked, const Rule& rule, const ReadScratch<T>& scratch, const Sizes<T>& s) {
  least_used(slots, usage, rule.n, rows.norm, s);
  write_weights(rows.write_weights, previous, asked.gate, slots, rule, s);
  write(X, rows.write_weights, asked.add, slots[0], s);
  address(rows.read_weights, rows.cosine, rows.norm, scratch.unit, scratch.key_norm, X, asked.key, asked.strength, s);
  if (read) slot_sum(read, X, rows.read_weights, scratch.lanes, s);
  const T decay = T(rule.decay);
  for (int64_t i = 0; i < s.N; ++i) usage_out[i] = decay * usage[i];
  for (int64_t h = 0; h < s.R; ++h) {
    const T *w_r = rows.read_weights + h * s.Np, *w_w = rows.write_weights + h * s.Np;
    for (int64_t i = 0; i < s.N; ++i) usage_out[i] += w_r[i] + w_w[i];
  }
}

// Its backward. In place, from gradients of what the step gave to those of what it took: D of the memory, grad_w (R,Np)
// of the read weights, grad_u (Np) of the usage. X is the memory after the step. grad_read and grad_write_weights (R,N)
// null: zero.
template <class T, class M, class ConstM>
void step_backward(M D, T* grad_w, T* grad_u, const AskedGradients<T>& grad, const T* grad_read,
                   const T* grad_write_weights, ConstM X, const Rows<const T>& rows, const int64_t* slots,
                   const T* previous, const Asked<T>& asked, const Rule& rule, const ReadScratch<T>& scratch,
                   const Sizes<T>& s) {
  for (int64_t h = 0; h < s.R; ++h)
    for (int64_t i = 0; i < s.Np; ++i) grad_w[h * s.Np + i] += grad_u[i];
  read_backward(D, grad.key, grad.strength, grad_w, grad_read, X, asked.key, asked.strength, rows.read_weights,
                rows.cosine, rows.norm, scratch, s);
  slot_sum(grad.add, D, rows.write_weights, scratch.lanes, s);
  slot_dot(grad_w, D, asked.add, s);
  for (int64_t h = 0; h < s.R; ++h) {
    T* row = grad_w + h * s.Np;
    const T* given = grad_write_weights ? grad_write_weights + h * s.N : nullptr;
    for (int64_t i = 0; i < s.Np; ++i) row[i] += grad_u[i];
    if (given) for (int64_t i = 0; i < s.N; ++i) row[i] += given[i];
    const T open = sigmoid(asked.gate[h]), closed = sigmoid(-asked.gate[h]);
    Vec<T> reused = {};
    for (int64_t i = 0; i < s.Np; i += Lanes<T>::L) reused += load(row + i) * load(previous + h * s.Np + i);
    T fresh = 0;
    if (rule.per_head) fresh = row[slots[h % rule.n]];
    else for (int64_t l = 0; l < rule.n; ++l) fresh += row[slots[l]];
    grad.gate[h] = open * closed * (lane_sum<T>(reused) - fresh);
    for (int64_t i = 0; i < s.Np; ++i) row[i] *= open;
  }
  for (int64_t i = 0; i < s.Np; ++i) grad_u[i] *= T(rule.decay);
  clear_slot(D, slots[0], s);
}

}  // namespace
