// Which kernel an operation of the NTM launches, in how many blocks, and where its rows are.
//
// A Gpu launches kernels and lends device memory until they are done. ntm.cu has the real one, tests/cuda an
// emulated one. A Gpu has
//   launch(name, kernel, blocks, threads, bytes of shared memory, arguments...)
//   workspace<T>(count)
#pragma once

#include "address_backward.h"
#include "shift.h"
#include "write_backward.h"

namespace mannkern {

constexpr int kMostOfWarp = 256;  // the longest row that a warp works on; a longer one takes a block

// Launches blocks that have `numbers` of T in shared memory. Their `rows` rows of N numbers are there too, or in device
// memory if they are too long.
template <class Group, class T, class Gpu, class Op>
void launch_rows(Gpu& gpu, const char* name, void (*kernel)(Op, int64_t, T*), int64_t blocks, int64_t numbers,
                 int64_t rows, const Op& op, int64_t count, int64_t N) {
  const int64_t bytes = (numbers + rows * N) * sizeof(T);
  if (bytes <= kBlockBytes)
    return gpu.launch(name, kernel, least(blocks, kMostBlocks), Group::kThreads, bytes, op, count, nullptr);
  const int few = least(blocks, kMostWorking);
  gpu.launch(name, kernel, few, Group::kThreads, numbers * sizeof(T), op, count,
             gpu.template workspace<T>(few * rows * N));
}

template <template <class> class Group, class Gpu, class T>
void run_rows(Gpu& gpu, int64_t count, const ShiftSharpen<T>& op) {
  using G = Group<T>;
  launch_rows<G, T>(gpu, "shift_sharpen", shift_sharpen_kernel<Group, T>, (count + G::kPerBlock - 1) / G::kPerBlock,
                    kLanes, kShiftRows * G::kPerBlock, op, count, op.N);
}

template <template <class> class Group, class Gpu, class T>
void run_rows(Gpu& gpu, int64_t count, const ShiftSharpenBackward<T>& op) {
  using G = Group<T>;
  launch_rows<G, T>(gpu, "shift_sharpen_backward", shift_sharpen_backward_kernel<Group, T>,
                    (count + G::kPerBlock - 1) / G::kPerBlock, kLanes, kShiftBackwardRows * G::kPerBlock, op, count,
                    op.N);
}

template <template <class> class Group, class Gpu, class T>
void run_rows(Gpu& gpu, int64_t B, const NTMAddress<T>& op) {
  using G = Group<T>;
  launch_rows<G, T>(gpu, "ntm_address", address_kernel<Group, T>, B,
                    AddressSharedLayout<T, G::kThreads>::rows(int(op.shape.W)),
                    address_rows<G>(least(op.shape.H, kHeads)), op, B, op.shape.N);
}

template <template <class> class Group, class Gpu, class T>
void run_rows(Gpu& gpu, int64_t B, const NTMAddressBackward<T>& op) {
  using G = Group<T>;
  launch_rows<G, T>(gpu, "ntm_address_backward", address_backward_kernel<Group, T>, B,
                    AddressBackwardSharedLayout<G::kThreads>::kRows,
                    address_backward_rows<G>(least(op.shape.H, kHeads)), op, B, op.shape.N);
}

template <class T>
int64_t slots_of(const ShiftSharpen<T>& op) {
  return op.N;
}
template <class T>
int64_t slots_of(const ShiftSharpenBackward<T>& op) {
  return op.N;
}
template <class Op>
int64_t slots_of(const Op& op) {
  return op.shape.N;
}

// Runs an operation on `count` episodes; shift_sharpen on `count` rows of weights.
template <class Gpu, class Op>
void run(Gpu& gpu, int64_t count, const Op& op) {
  if (count == 0) return;
  if (slots_of(op) <= kMostOfWarp) run_rows<Warp>(gpu, count, op);
  else run_rows<Block>(gpu, count, op);
}

template <class Gpu, class T>
void run(Gpu& gpu, int64_t B, const NTMWrite<T>& op) {
  if (B == 0) return;
  const int64_t parts = (op.shape.N + kWriteSlots - 1) / kWriteSlots;
  gpu.launch("ntm_write", write_kernel<T>, least(B * parts, kMostBlocks), kWriteThreads, 0, op, B);
}

template <class Gpu, class T>
void run(Gpu& gpu, int64_t B, const NTMWriteBackward<T>& op) {
  if (B == 0) return;
  gpu.launch("ntm_write_backward", write_backward_kernel<T>, least(B, kMostBlocks), kWriteThreads,
             WriteBackwardSharedLayout<T>::size(int(op.shape.W)) * sizeof(T), op, B);
}

}  // namespace mannkern
