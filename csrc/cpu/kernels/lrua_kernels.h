// The kernels of LRUA's single operations over episodes [begin, end): load an episode, apply lrua_math.h, store it.
#pragma once

#include "arena.h"
#include "lrua_math.h"
#include "prefetch.h"

namespace {

using namespace mannkern;

// Numbers of scratch that the largest kernel needs, the backward pass of a step.
template <class T>
int64_t scratch_size(const Sizes<T>& s) {
  return 2 * (blocks_size(s) + copy_size(s)) + (6 * s.R + 3) * s.Np + 2 * s.R * s.W + 2 * s.R;
}

template <class T>
ReadScratch<T> take_read_scratch(Arena<T>& arena, const Sizes<T>& s) {
  ReadScratch<T> scratch;
  scratch.unit = arena.take(s.R * s.W);
  scratch.key_norm = arena.take(s.R);
  scratch.pull = arena.take(s.R * s.Np);
  scratch.shrink = arena.take(s.Np);
  scratch.part = arena.take(s.R * s.W);
  return scratch;
}

// Loads norms (N) into a padded row, with 1 in the padding, so that a division by the padding is harmless.
template <class T>
void load_norms(T* out, const T* norm, const Sizes<T>& s) {
  load_rows(out, norm, 1, s);
  for (int64_t i = s.N; i < s.Np; ++i) out[i] = 1;
}

// The interface vector of episode e, from the tensors of all episodes.
template <class T>
InterfaceVector<T> interface_at(const InterfaceVector<T>& p, int64_t e, const Sizes<T>& s) {
  const int64_t h = e * s.R;
  return {p.key + h * s.W, p.add + h * s.W, p.gate + h, offset_or_null(p.strength, h)};
}
template <class T>
InterfaceGradients<T> interface_at(const InterfaceGradients<T>& p, int64_t e, const Sizes<T>& s) {
  const int64_t h = e * s.R;
  return {p.key + h * s.W, p.add + h * s.W, p.gate + h, offset_or_null(p.strength, h)};
}

template <class T>
void additive_write(const AdditiveWrite<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t NW = s.N * s.W, RN = s.R * s.N, RW = s.R * s.W;
  Arena<T> arena(scratch_size(s));
  T *copy = arena.take(copy_size(s)), *w = arena.take(s.R * s.Np);
  for (int64_t e = begin; e < end; ++e) {
    const RowMajor<T> X = begin_at(op.memory_out + e * NW, op.memory + e * NW, copy, s);
    load_rows(w, op.write_weights + e * RN, s.R, s);
    write(X, w, op.add + e * RW, op.reset ? op.reset[e] : -1, s);
    finish(op.memory_out + e * NW, X, s);
  }
}

template <class T>
void additive_write_backward(const AdditiveWriteBackward<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t NW = s.N * s.W, RN = s.R * s.N, RW = s.R * s.W;
  Arena<T> arena(scratch_size(s));
  T *copy = arena.take(copy_size(s)), *w = arena.take(s.R * s.Np), *grad_w = arena.take(s.R * s.Np);
  for (int64_t e = begin; e < end; ++e) {
    const RowMajor<T> D = begin_at(op.grad_memory + e * NW, op.grad_memory_out + e * NW, copy, s);
    load_rows(w, op.write_weights + e * RN, s.R, s);
    slot_sum(op.grad_add + e * RW, D, w, s);
    slot_dot(grad_w, D, op.add + e * RW, s);
    store_rows(op.grad_write_weights + e * RN, grad_w, s.R, s);
    if (op.reset) clear_slot(D, op.reset[e], s);
    finish(op.grad_memory + e * NW, D, s);
  }
}

template <class T>
void cosine_read(const CosineRead<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t NW = s.N * s.W, RN = s.R * s.N, RW = s.R * s.W;
  Arena<T> arena(scratch_size(s));
  T *copy = arena.take(copy_size(s)), *w = arena.take(s.R * s.Np), *cosine = arena.take(s.R * s.Np);
  T* norm = arena.take(s.Np);
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  for (int64_t e = begin; e < end; ++e) {
    const RowMajor<const T> X = to_read(op.memory + e * NW, copy, s);
    norms_and_content_weights(w, cosine, norm, scratch.unit, scratch.key_norm, X, op.key + e * RW,
                              offset_or_null(op.strength, e * s.R), s);
    slot_sum(op.read + e * RW, X, w, s);
    store_rows(op.read_weights + e * RN, w, s.R, s);
    store_rows(op.cosine + e * RN, cosine, s.R, s);
    store_rows(op.norm + e * s.N, norm, 1, s);
  }
}

template <class T>
void cosine_read_backward(const CosineReadBackward<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t NW = s.N * s.W, RN = s.R * s.N, RW = s.R * s.W;
  Arena<T> arena(scratch_size(s));
  T *copy = arena.take(copy_size(s)), *grad_copy = arena.take(copy_size(s)), *norm = arena.take(s.Np);
  T *w = arena.take(s.R * s.Np), *cosine = arena.take(s.R * s.Np), *grad_w = arena.take(s.R * s.Np);
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  for (int64_t e = begin; e < end; ++e) {
    const RowMajor<const T> X = to_read(op.memory + e * NW, copy, s);
    const RowMajor<T> D = begin_at(op.grad_memory + e * NW, static_cast<const T*>(nullptr), grad_copy, s);
    load_rows(w, op.read_weights + e * RN, s.R, s);
    load_rows(cosine, op.cosine + e * RN, s.R, s);
    load_rows(grad_w, offset_or_null(op.grad_read_weights, e * RN), s.R, s);
    load_norms(norm, op.norm + e * s.N, s);
    read_backward(D, op.grad_key + e * RW, offset_or_null(op.grad_strength, e * s.R), grad_w,
                  offset_or_null(op.grad_read, e * RW), X, op.key + e * RW, offset_or_null(op.strength, e * s.R), w,
                  cosine, norm, scratch, s);
    finish(op.grad_memory + e * NW, D, s);
  }
}

template <class T>
void lrua_step(const LRUAStep<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t N = s.N, NW = N * s.W, RN = s.R * N, RW = s.R * s.W, n = op.options.n;
  Arena<T> arena(scratch_size(s));
  T *copy = arena.take(copy_size(s)), *padded = arena.take(s.R * s.Np);
  const Rows<T> padded_rows = rows_at(arena.take(rows_size(s)), s);
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  const bool whole = N == s.Np;  // rows need no padding, so the tensors themselves are read and written
  for (int64_t e = begin; e < end; ++e) {
    if (e + 1 < end)
      prefetch<T>(e + 1, {{op.read_weights, RN}, {op.usage, N}, {op.interface.key, RW}, {op.interface.add, RW}});
    const RowMajor<T> X = begin_in_update(op.memory_out + e * NW, op.memory + e * NW, copy, s);
    const T* previous = whole ? op.read_weights + e * RN : padded;
    const Rows<T> rows =
        whole ? Rows<T>{op.read_weights_out + e * RN, op.write_weights + e * RN, op.cosine + e * RN, op.norm + e * N}
              : padded_rows;
    if (!whole) load_rows(padded, op.read_weights + e * RN, s.R, s);
    step(X, rows, op.least_used + e * n, op.usage_out + e * N, op.read + e * RW, previous, op.usage + e * N,
         interface_at(op.interface, e, s), op.options, scratch, s);
    finish(op.memory_out + e * NW, X, s);
    if (whole) continue;
    store_rows(op.read_weights_out + e * RN, rows.read_weights, s.R, s);
    store_rows(op.write_weights + e * RN, rows.write_weights, s.R, s);
    store_rows(op.cosine + e * RN, rows.cosine, s.R, s);
    store_rows(op.norm + e * N, rows.norm, 1, s);
  }
}

template <class T>
void lrua_step_backward(const LRUAStepBackward<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.shape.N, op.shape.W, op.shape.R);
  const int64_t N = s.N, NW = N * s.W, RN = s.R * N, RW = s.R * s.W;
  Arena<T> arena(scratch_size(s));
  T *copy = arena.take(copy_size(s)), *grad_copy = arena.take(copy_size(s)), *grad_w = arena.take(s.R * s.Np);
  T *grad_u = arena.take(s.Np), *padded = arena.take(s.R * s.Np);
  const Rows<T> padded_rows = rows_at(arena.take(rows_size(s)), s);
  const bool whole = N == s.Np;
  const ReadScratch<T> scratch = take_read_scratch(arena, s);
  for (int64_t e = begin; e < end; ++e) {
    if (e + 1 < end)
      prefetch<T>(e + 1, {{op.grad_read, RW},
                          {op.grad_read_weights_out, RN},
                          {op.grad_usage_out, N},
                          {op.grad_write_weights, RN},
                          {op.read_weights, RN},
                          {op.interface.key, RW},
                          {op.interface.add, RW},
                          {op.read_weights_out, RN},
                          {op.write_weights, RN},
                          {op.cosine, RN},
                          {op.norm, N}});
    const RowMajor<const T> X = to_read(op.memory_out + e * NW, copy, s);
    const RowMajor<T> D =
        begin_in_update(op.grad_memory + e * NW, offset_or_null(op.grad_memory_out, e * NW), grad_copy, s);
    load_rows(grad_u, offset_or_null(op.grad_usage_out, e * N), 1, s);
    load_rows(grad_w, offset_or_null(op.grad_read_weights_out, e * RN), s.R, s);
    if (!whole) {
      load_rows(padded, op.read_weights + e * RN, s.R, s);
      load_rows(padded_rows.read_weights, op.read_weights_out + e * RN, s.R, s);
      load_rows(padded_rows.write_weights, op.write_weights + e * RN, s.R, s);
      load_rows(padded_rows.cosine, op.cosine + e * RN, s.R, s);
      load_norms(padded_rows.norm, op.norm + e * N, s);
    }
    const Rows<const T> rows = whole ? Rows<const T>{op.read_weights_out + e * RN, op.write_weights + e * RN,
                                                     op.cosine + e * RN, op.norm + e * N}
                                     : rows_at<T, const T>(padded_rows.read_weights, s);
    step_backward(D, grad_w, grad_u, interface_at(op.grad_interface, e, s), offset_or_null(op.grad_read, e * RW),
                  offset_or_null(op.grad_write_weights, e * RN), X, rows, op.least_used + e * op.options.n,
                  whole ? op.read_weights + e * RN : padded, interface_at(op.interface, e, s), op.options, scratch, s);
    finish(op.grad_memory + e * NW, D, s);
    store_rows(op.grad_read_weights + e * RN, grad_w, s.R, s);
    store_rows(op.grad_usage + e * N, grad_u, 1, s);
  }
}

template <class T>
void usage_update(const UsageUpdate<T>& op, int64_t begin, int64_t end) {
  const int64_t N = op.N, RN = op.R * N;
  for (int64_t e = begin; e < end; ++e)
    update_usage(op.usage_out + e * N, op.usage + e * N, op.read_weights + e * RN, op.write_weights + e * RN,
                 T(op.decay), N, op.R, N);
}

template <class T>
void least_used_slots(const LeastUsedSlots<T>& op, int64_t begin, int64_t end) {
  const Sizes<T> s(op.N, 1, 1);
  Arena<T> arena(scratch_size(s));
  T* rank = arena.take(s.Np);
  for (int64_t e = begin; e < end; ++e) least_used(op.slots + e * op.n, op.usage + e * op.N, op.n, rank, s);
}

}  // namespace
