// The kernels of the NTM's single operations over episodes [begin, end): load an episode, apply ntm_math.h, store it.
#pragma once

#include "lrua_kernels.h"
#include "ntm_math.h"

namespace {

// Numbers of scratch that the largest kernel needs, the backward pass of a step.
template <class T>
int64_t scratch_size(const Sizes<T>& s, const Row<T>& team) {
  return 2 * blocks_size(s) + (8 * s.R + 4) * s.Np + (2 * Lanes<T>::L + 2) * s.R * s.W + (3 * Lanes<T>::L + 2) * s.R +
         2 * team.size_with_halo();
}

// A row with its halo.
template <class T>
T* take_with_halo(Arena<T>& arena, const Row<T>& team) {
  return arena.take(team.size_with_halo()) + team.halo();
}

template <class T>
AddressScratch<T> take_address_scratch(Arena<T>& arena, const Sizes<T>& s, const Row<T>& team) {
  AddressScratch<T> scratch;
  scratch.moved = take_with_halo(arena, team);
  scratch.grad_shifted = take_with_halo(arena, team);
  scratch.shifted = arena.take(s.Np);
  scratch.read = take_read_scratch(arena, s);
  return scratch;
}

// The heads of episode e.
template <class T>
Heads<T> heads_at(const Heads<T>& p, int64_t e, const NTMShape& s) {
  const int64_t h = e * s.H;
  return {p.key + h * s.W, p.strength + h, p.gate + h, p.shift + h * s.S, p.sharpness + h};
}
template <class T>
HeadGradients<T> heads_at(const HeadGradients<T>& p, int64_t e, const NTMShape& s) {
  const int64_t h = e * s.H;
  return {p.key + h * s.W, p.strength + h, p.gate + h, p.shift + h * s.S, p.sharpness + h};
}

template <class T>
void shift_sharpen(const ShiftSharpen<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.N, 1, 1);
  const Row<T> team(op.N, op.S);
  Arena<T> arena(scratch_size(s, team));
  T *moved = take_with_halo(arena, team), *w = arena.take(s.Np);
  for (int64_t row = begin; row < end; ++row) {
    std::memcpy(moved, op.weights + row * op.N, op.N * sizeof(T));
    team.fill_halo(moved);
    mannkern::shift(team, w, moved, op.shift + row * op.S, op.S);
    mannkern::sharpen(team, w, w, op.sharpness[row]);
    store_rows(op.sharpened + row * op.N, w, 1, s);
  }
}

template <class T>
void shift_sharpen_backward(const ShiftSharpenBackward<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.N, 1, 1);
  const Row<T> team(op.N, op.S);
  Arena<T> arena(scratch_size(s, team));
  T *moved = take_with_halo(arena, team), *grad_shifted = take_with_halo(arena, team), *shifted = arena.take(s.Np);
  T *w = arena.take(s.Np), *grad = arena.take(s.Np);
  for (int64_t row = begin; row < end; ++row) {
    const T *shift = op.shift + row * op.S, y = op.sharpness[row];
    std::memcpy(moved, op.weights + row * op.N, op.N * sizeof(T));
    team.fill_halo(moved);
    load_rows(w, op.sharpened + row * op.N, 1, s);
    load_rows(grad, op.grad + row * op.N, 1, s);
    mannkern::shift(team, shifted, moved, shift, op.S);
    mannkern::sharpen_backward(team, grad_shifted, op.grad_sharpness[row], grad, w, shifted, y);
    mannkern::shift_backward(team, grad, op.grad_shift + row * op.S, grad_shifted, moved, shift, op.S);
    store_rows(op.grad_weights + row * op.N, grad, 1, s);
  }
}

template <class T>
void ntm_address(const NTMAddress<T>& op, int64_t begin, int64_t end) {
  const auto [N, W, H, S] = op.shape;
  const Sizes<T> s(N, W, H);
  const Row<T> team(N, S);
  Arena<T> arena(scratch_size(s, team));
  T *X = arena.take(blocks_size(s)), *w = arena.take(H * s.Np), *contents = arena.take(H * s.Np);
  T *cosine = arena.take(H * s.Np), *previous = arena.take(H * s.Np), *norm = arena.take(s.Np);
  const AddressScratch<T> scratch = take_address_scratch(arena, s, team);
  for (int64_t e = begin; e < end; ++e) {
    load_blocks(X, op.memory + e * N * W, s);
    load_rows(previous, op.previous + e * H * N, H, s);
    slot_norms(norm, X, s);
    address(w, contents, cosine, X, norm, previous, heads_at(op.heads, e, op.shape), scratch, s, team, S);
    store_rows(op.weights + e * H * N, w, H, s);
    store_rows(op.content + e * H * N, contents, H, s);
    store_rows(op.cosine + e * H * N, cosine, H, s);
    store_rows(op.norm + e * N, norm, 1, s);
  }
}

template <class T>
void ntm_address_backward(const NTMAddressBackward<T>& op, int64_t begin, int64_t end) {
  const auto [N, W, H, S] = op.shape;
  const Sizes<T> s(N, W, H);
  const Row<T> team(N, S);
  Arena<T> arena(scratch_size(s, team));
  T *X = arena.take(blocks_size(s)), *D = arena.take(blocks_size(s)), *norm = arena.take(s.Np);
  T *w = arena.take(H * s.Np), *contents = arena.take(H * s.Np), *cosine = arena.take(H * s.Np);
  T *previous = arena.take(H * s.Np), *grad = arena.take(H * s.Np), *grad_previous = arena.take(H * s.Np);
  const AddressScratch<T> scratch = take_address_scratch(arena, s, team);
  for (int64_t e = begin; e < end; ++e) {
    const int64_t rows = e * H * N;
    load_blocks(X, op.memory + e * N * W, s);
    std::memset(D, 0, blocks_size(s) * sizeof(T));
    load_norms(norm, op.norm + e * N, s);
    load_rows(w, op.weights + rows, H, s);
    load_rows(contents, op.content + rows, H, s);
    load_rows(cosine, op.cosine + rows, H, s);
    load_rows(previous, op.previous + rows, H, s);
    load_rows(grad, op.grad + rows, H, s);
    address_backward(grad_previous, heads_at(op.grad_heads, e, op.shape), grad, X, norm, previous,
                     heads_at(op.heads, e, op.shape), w, contents, cosine, scratch, s, team, S);
    shrink_long_slots(D, static_cast<const T*>(X), norm, scratch.read.shrink, s);
    rank_update(D, scratch.read.pull, scratch.read.unit, s, scratch.read.shrink, static_cast<const T*>(X));
    store_rows(op.grad_previous + rows, grad_previous, H, s);
    store_blocks(op.grad_memory + e * N * W, D, s);
  }
}

template <class T>
void ntm_write(const NTMWrite<T>& op, int64_t begin, int64_t end) {
  const auto [N, W, H, S] = op.shape;
  const Sizes<T> s(N, W, H);
  Arena<T> arena(scratch_size(s, Row<T>(N)));
  T *X = arena.take(blocks_size(s)), *w = arena.take(H * s.Np);
  for (int64_t e = begin; e < end; ++e) {
    load_blocks(X, op.memory + e * N * W, s);
    load_rows(w, op.weights + e * H * N, H, s);
    erase_write(X, X, w, op.erase + e * H * W, op.add + e * H * W, s);
    store_blocks(op.memory_out + e * N * W, X, s);
  }
}

template <class T>
void ntm_write_backward(const NTMWriteBackward<T>& op, int64_t begin, int64_t end) {
  const auto [N, W, H, S] = op.shape;
  const Sizes<T> s(N, W, H);
  Arena<T> arena(scratch_size(s, Row<T>(N)));
  T *X = arena.take(blocks_size(s)), *D = arena.take(blocks_size(s)), *w = arena.take(H * s.Np);
  T *grad_w = arena.take(H * s.Np), *lanes = arena.take(2 * H * W * Lanes<T>::L);
  T* factors = arena.take(3 * H * Lanes<T>::L);
  for (int64_t e = begin; e < end; ++e) {
    const int64_t vectors = e * H * W;
    load_blocks(X, op.memory + e * N * W, s);
    load_blocks(D, op.grad + e * N * W, s);
    load_rows(w, op.weights + e * H * N, H, s);
    std::memset(grad_w, 0, H * s.Np * sizeof(T));
    erase_write_backward(D, grad_w, op.grad_erase + vectors, op.grad_add + vectors, X, w, op.erase + vectors,
                         op.add + vectors, lanes, factors, s);
    store_rows(op.grad_weights + e * H * N, grad_w, H, s);
    store_blocks(op.grad_memory + e * N * W, D, s);
  }
}

}  // namespace
