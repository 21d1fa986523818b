// The interface vectors in the persistent kernel's forward pass, and what blocks give to each other.
#pragma once

#include "persistent_loads.h"

namespace mannkern {

// Whom a block of the cluster gives what, and how many bytes a block gets in each turn.
struct Inboxes {
  Inbox *hidden, *interface, *read;
  int hidden_bytes, interface_bytes, read_bytes;
  __device__ Inboxes(float* shared, const PersistentLayout& l)
      : hidden(reinterpret_cast<Inbox*>(shared + l.inboxes)), interface(hidden + 1), read(hidden + 2),
        hidden_bytes(kEpisodes * kCluster * l.units * int(sizeof(float))), interface_bytes((l.I + l.R) * int(sizeof(float))),
        read_bytes(kEpisodes * l.R * l.W * int(sizeof(float))) {}
  __device__ void init() const {
    if (threadIdx.x != 0) return;
    hidden->init(), interface->init(), read->init();
  }
  __device__ void expect() const {
    if (threadIdx.x != 0) return;
    hidden->expect(hidden_bytes), interface->expect(interface_bytes), read->expect(read_bytes);
  }
};

// A thread's row of the interface vector and the episode that it is for.
struct InterfacePlace {
  int row, episode;  // the row of the block's rows
  int place;         // in shared memory
  bool used, saved;
  int64_t e;
  float bias;
  __device__ InterfacePlace(const PersistentLayout& l, const BlockPlace& b, const MANNPersistent& op)
      : row(b.rows > 0 ? int(threadIdx.x) % b.rows : 0), episode(b.rows > 0 ? int(threadIdx.x) / b.rows : kEpisodes),
        used(episode < kEpisodes), saved(used && b.first_episode + episode < op.sizes.B), e(b.first_episode + episode),
        bias(used ? op.interface_bias[b.first_row + row] : 0.0f) {
    const int size = l.R * l.W, i = b.first_row + row;
    if (i < 2 * size) place = (i < size ? kKeys : kAdds) + i % size / l.W * kMostColumns + i % l.W;
    else place = i < 2 * size + l.R ? kOpen + i - 2 * size : kStrengths + i - 2 * size - l.R;
  }
};

__device__ inline void multiply_interface(float* shared, const PersistentLayout& l) {
  const int tiles = l.hidden_columns / kTileDepth;
  for (int job = threadIdx.x / kLanes; job / l.kInterfaceParts * kTileRows < l.interface_rows; job += kWarps) {
    const int row = job / l.kInterfaceParts * kTileRows, part = job % l.kInterfaceParts;
    float sums[4] = {};
    multiply(sums,
             TilePlace(shared + l.interface_weights, l.interface_pitch, row, l.interface_rows, shared + l.hidden,
                       l.hidden_pitch),
             tiles * part / l.kInterfaceParts, tiles * (part + 1) / l.kInterfaceParts);
    store_sums(shared + l.interface_sums + (part * l.interface_rows + row) * kSumsPitch, sums, l.interface_rows - row);
  }
}

// Activates a thread's number of an interface vector, and gives it to the block that has the memory.
__device__ inline void give_interface(float* shared, const Inboxes& inboxes, const MANNPersistent& op,
                                      const PersistentLayout& l, const BlockPlace& b, const InterfacePlace& i,
                                      int64_t t) {
  if (!i.used) return;
  float x = i.bias;
#pragma unroll
  for (int part = 0; part < l.kInterfaceParts; ++part)
    x += shared[l.interface_sums + (part * l.interface_rows + i.row) * kSumsPitch + i.episode];
  float* place = shared + l.vector + i.place;
  if (i.place < kOpen) {
    x = std::tanh(x);
    give(place, inboxes.interface, i.episode, x);
  } else if (i.place < kClosed) {
    give(place, inboxes.interface, i.episode, fast_sigmoid(x));
    give(place + kClosed - kOpen, inboxes.interface, i.episode, fast_sigmoid(-x));
  } else {
    x = bounded(softplus<DeviceMath>(x, 1.0f));
    give(place, inboxes.interface, i.episode, x);
  }
  if (op.interface && i.saved) op.interface[(t * op.sizes.B + i.e) * l.I + b.first_row + i.row] = x;
}

}  // namespace mannkern
