// Scratch memory of a thread, so that a kernel allocates nothing.
#pragma once

#include <cstdint>
#include <new>
#include <stdexcept>

#include "slot_blocks.h"

namespace {

// One buffer per thread, which grows to the largest request and stays. Requests above kKept are freed after their call:
// a long lrua_scan asks for as many memories as lie between two checkpoints.
struct Buffer {
  void* data = nullptr;
  size_t size = 0;
  void grow(size_t bytes) {
    ::operator delete(data, kLine);
    data = nullptr, size = 0;
    data = ::operator new(bytes, kLine);
    size = bytes;
  }
  ~Buffer() { ::operator delete(data, kLine); }
  static constexpr std::align_val_t kLine{64};
  static constexpr size_t kKept = size_t(16) << 20;  // bytes
};

// Hands out pieces of the thread's buffer, each on a cache line of its own: up to kPieces of them, `count` numbers in
// all. A new Arena hands out the same buffer again, so a thread has one at a time.
template <class T>
class Arena {
 public:
  explicit Arena(int64_t count) {
    static thread_local Buffer kept;
    const size_t bytes = size_t(count + kPieces * kPiece) * sizeof(T);
    Buffer& buffer = bytes > Buffer::kKept ? own_ : kept;
    if (buffer.size < bytes) buffer.grow(bytes);
    next_ = static_cast<T*>(buffer.data);
    left_ = count + kPieces * kPiece;
  }
  T* take(int64_t count) {
    T* piece = next_;
    next_ += padded(count, kPiece), left_ -= padded(count, kPiece);
    if (left_ < 0) throw std::length_error("a kernel takes more scratch memory than it asked for");
    return piece;
  }

 private:
  static constexpr int64_t kPiece = 64 / sizeof(T), kPieces = 24;
  Buffer own_;
  T* next_;
  int64_t left_;
};

}  // namespace
