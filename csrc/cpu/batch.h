// How an episode operation goes through a batch: in shares of a few episodes, each of which one thread takes through all
// steps. An episode stops at its length, and it may start anew at some steps.
//
// Why shares: no thread waits for another between two steps, so the operation is as fast as the threads that run, also
// on a busy machine; and what a share needs at a step stays in the caches. Every tensor of an episode has all episodes
// of a step behind each other, so that no layout depends on the shares, and the sums over a batch are taken in chunks,
// which depend on the number of threads alone, and are 128 episodes for one thread and two.
#pragma once

#include <algorithm>

#include "dispatch.h"

namespace mannkern {

struct Chunk {
  int64_t begin, B;             // the first episode, and how many
  std::vector<int64_t> active;  // (T + 1): how many run at step t, which are the first ones; number T is 0
  std::vector<int64_t> rows;    // (T + 1): how many run at the steps before t, all steps together
};

// Episodes of a chunk that one thread takes through all steps.
struct Share {
  const Chunk* chunk;
  int64_t first, B;  // the first episode, counted from the chunk's, and how many

  int64_t begin() const { return chunk->begin + first; }
  // How many run at step t, which are the first ones of the share.
  int64_t active(int64_t t) const { return std::clamp<int64_t>(chunk->active[t] - first, 0, B); }
  // The row of the first episode at step t, where all that run at a step of the chunk lie behind each other.
  int64_t row(int64_t t) const { return chunk->rows[t] + first; }
  // What a step has of an episode that has ended is zeros: `width` numbers of each episode, from that of the share's
  // first.
  template <class T>
  void clear_ended(T* at, int64_t width, int64_t t) const {
    if (at) std::fill(at + active(t) * width, at + B * width, T(0));
  }
};

class Batch {
 public:
  // lengths (B), int64, must not increase, so that the episodes that run at a step are the first ones of a chunk; null:
  // all T. reset (T,B), bool: where an episode starts anew before a step; null: nowhere.
  template <class Call>
  Batch(Call& call, int64_t T, int64_t B, const Maybe& lengths, const Maybe& reset) : B_(B) {
    const int64_t* length = nullptr;
    if (lengths) {
      length = static_cast<const int64_t*>(call.hold(*lengths, "lengths", {B}, ScalarType::Long).const_data_ptr());
      for (int64_t e = 0; e < B; ++e) {
        check_range(length[e], "lengths", 0, T);
        if (e > 0 && length[e] > length[e - 1])
          refuse("lengths", std::to_string(length[e]) + " behind " + std::to_string(length[e - 1]),
                 "the longest first");
      }
    }
    if (reset)
      reset_ = static_cast<const bool*>(call.hold(*reset, "reset", {T, B}, ScalarType::Bool).const_data_ptr());
    const int64_t size = 64 * std::max<int64_t>(2, torch::stable::get_num_threads());
    const int64_t count = std::max<int64_t>(1, (B + size - 1) / size);
    for (int64_t i = 0, begin = 0; i < count; begin += chunks[i++].B) {
      Chunk chunk{begin, B / count + (i < B % count), std::vector<int64_t>(T + 1), std::vector<int64_t>(T + 1)};
      for (int64_t t = 0, n = chunk.B; t < T; ++t) {
        while (length && n > 0 && length[begin + n - 1] <= t) --n;
        chunk.active[t] = n;
        chunk.rows[t + 1] = chunk.rows[t] + n;
      }
      chunks.push_back(std::move(chunk));
    }
  }
  int64_t largest() const { return chunks.front().B; }
  // From the episode number `begin` on, at step t: whether an episode starts anew; null: none does.
  const bool* reset(int64_t begin, int64_t t) const { return offset_or_null(reset_, t * B_ + begin); }

  // The shares of a chunk, or of all. Each thread gets as many, because they take equally long, and at least two, so
  // that where others use the machine the thread that runs takes more; but none has fewer than kRows episodes, as
  // products of fewer rows are slower. Where a thread would have none, there is one share, and threads split each of
  // its products instead.
  std::vector<Share> shares(const Chunk& chunk) const {
    const int64_t threads = torch::stable::get_num_threads(), least = (chunk.B + kShare - 1) / kShare;
    int64_t count = (least + threads - 1) / threads * threads;
    if (threads > 1) count = std::max(count, 2 * threads);
    if (count * kRows > chunk.B) count = chunk.B / kRows / threads * threads;
    count = std::max<int64_t>(count, 1);
    std::vector<Share> shares;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t first = i * chunk.B / count;
      shares.push_back({&chunk, first, (i + 1) * chunk.B / count - first});
    }
    return shares;
  }
  std::vector<Share> shares() const {
    std::vector<Share> all;
    for (const Chunk& chunk : chunks)
      for (const Share& share : shares(chunk)) all.push_back(share);
    return all;
  }

  std::vector<Chunk> chunks;  // their sizes differ by one at most, the larger ones first

 private:
  static constexpr int64_t kRows = 4;
  static constexpr int64_t kShare = 16;
  const int64_t B_;
  const bool* reset_ = nullptr;
};

// The most episodes of a share.
inline int64_t largest(const std::vector<Share>& shares) {
  int64_t B = 0;
  for (const Share& share : shares) B = std::max(B, share.B);
  return B;
}

// c before a step: zeros where an episode starts anew, in `scratch`; where none does, the cell as it is.
template <class T>
const T* restarted(const T* cell, const bool* reset, int64_t count, int64_t width, T* scratch) {
  if (!cell || !reset || std::none_of(reset, reset + count, [](bool anew) { return anew; })) return cell;
  for (int64_t e = 0; e < count; ++e)
    if (reset[e]) std::fill_n(scratch + e * width, width, T(0));
    else std::copy_n(cell + e * width, width, scratch + e * width);
  return scratch;
}

// Zeros in the rows of episodes that start anew.
template <class T>
void clear_restarted(T* rows, int64_t width, const bool* reset, int64_t count) {
  for (int64_t e = 0; reset && e < count; ++e)
    if (reset[e]) std::fill_n(rows + e * width, width, T(0));
}

}  // namespace mannkern
