// What a block of the persistent kernels keeps in shared memory, and which sizes fit.
//
// A cluster of 8 blocks takes 8 episodes through all steps. Every block keeps an eighth of the weights, works with it
// on all 8 episodes, and holds the memory of one of them in the registers of its first 8 warps.
#pragma once

#include "../args/persistent.h"
#include "product.h"

namespace mannkern {

constexpr int kCluster = kEpisodes;  // blocks of a cluster
constexpr int kPersistentThreads = 512, kWarps = kPersistentThreads / kLanes;
constexpr int kMemoryThreads = 256, kMemoryWarps = kMemoryThreads / kLanes;
constexpr int kMostSlots = 128, kMostColumns = 40;           // of a memory; there are kHeads heads at most
constexpr int kVector = kHeads * kMostColumns;               // numbers of all keys, of all adds, of all reads
constexpr int kMostUnits = kMemoryWarps * kTileRows / 4;     // hidden units of a block
constexpr int64_t kMostShared = 227 * 1024;                  // shared memory of a block on sm_90 and sm_100

// Parts of an interface vector in shared memory, with room for kHeads heads of kMostColumns columns: keys, adds,
// sigmoid(g) and sigmoid(-g) of the gates g, and strengths.
constexpr int kKeys = 0, kAdds = kVector, kOpen = 2 * kVector, kClosed = kOpen + kHeads, kStrengths = kClosed + kHeads;
constexpr int kInterface = kStrengths + kHeads;

// Sizes, and where the parts of shared memory begin, in numbers.
struct PersistentLayout {
  int D, N, W, R, I, O;
  int units, gate_rows, interface_rows;  // of a block; the last blocks may have fewer
  int hidden_columns, read_columns;      // D and R W, filled up with zeros to whole tiles
  int pitch, interface_pitch, hidden_pitch, read_pitch;
  int gate_weights, interface_weights, hidden, read, gate_sums, interface_sums, vector, weights, reads, usage, marks,
      slots, largest, sums, inboxes, end;

  MANNKERN_HOST_TOO explicit PersistentLayout(const PersistentShape& s)
      : D(int(s.D)), N(int(s.shape.N)), W(int(s.shape.W)), R(int(s.shape.R)),
        I(2 * R * W + (s.strengths ? 2 : 1) * R), O(D + R * W), units(divide_up(D, kCluster)), gate_rows(4 * units),
        interface_rows(divide_up(I, kCluster)), hidden_columns(whole_tiles(D)), read_columns(whole_tiles(R * W)),
        pitch(pitch_of(hidden_columns + read_columns)), interface_pitch(pitch_of(hidden_columns)),
        hidden_pitch(pitch_of(hidden_columns)), read_pitch(pitch_of(read_columns)) {
    gate_weights = 0;
    interface_weights = gate_weights + weight_size(gate_rows, pitch);
    hidden = interface_weights + weight_size(interface_rows, interface_pitch);
    read = hidden + kEpisodes * hidden_pitch;
    gate_sums = read + kEpisodes * read_pitch;
    interface_sums = gate_sums + kGateParts * gate_rows * kSumsPitch;
    vector = whole_tiles(interface_sums + kInterfaceParts * interface_rows * kSumsPitch);
    weights = whole_tiles(vector + kInterface);
    reads = weights + kMostSlots * kHeads;
    usage = reads + kMemoryWarps * kVector;
    marks = usage + kMostSlots;
    slots = marks + kMostSlots;
    largest = slots + kHeads;
    sums = largest + kHeads * kMemoryWarps;
    inboxes = sums + kHeads * kMemoryWarps;
    end = inboxes + 2 * 3;
  }
  MANNKERN_HOST_TOO int64_t bytes() const { return int64_t(end) * sizeof(float); }

  // A product's columns are split into parts, so that all warps have work. Of the gates' sums the first two parts are
  // those of the product with r, the last is that with h.
  static constexpr int kReadParts = 2, kGateParts = kReadParts + 1, kInterfaceParts = 5;
};

}  // namespace mannkern
