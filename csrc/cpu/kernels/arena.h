// Scratch memory of a thread, so that a kernel allocates nothing.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#include "slot_blocks.h"

namespace {

// One buffer per thread, which grows to the largest request and stays.
struct Buffer {
  void* data = nullptr;
  size_t size = 0;
  ~Buffer() { std::free(data); }
};

// Hands out pieces of the thread's buffer, each on a cache line of its own: up to kPieces of them, `count` numbers in
// all. A new Arena hands out the same buffer again, so a thread has one at a time.
template <class T>
class Arena {
 public:
  explicit Arena(int64_t count) {
    static thread_local Buffer buffer;
    const size_t bytes = size_t(count + kPieces * kPiece) * sizeof(T);
    if (buffer.size < bytes) {
      std::free(buffer.data);
      buffer.size = 0;
      buffer.data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
      if (!buffer.data) throw std::bad_alloc();
      buffer.size = bytes;
    }
    next_ = static_cast<T*>(buffer.data);
  }
  T* take(int64_t count) {
    T* piece = next_;
    next_ += padded(count, kPiece);
    return piece;
  }

 private:
  static constexpr int64_t kPiece = 64 / sizeof(T), kPieces = 24;
  T* next_;
};

}  // namespace
