// What a block of the persistent kernels keeps in shared memory, and which sizes fit.
//
// A cluster of 8 blocks takes 16 episodes through all steps. Every block keeps an eighth of the weights, works with it
// on all 16 episodes, and holds the memories of two of them in registers.
#pragma once

#include "../args/persistent.h"
#include "product.h"

namespace mannkern {

constexpr int kCluster = 8;           // blocks of a cluster
constexpr int kPersistentThreads = 512, kWarps = kPersistentThreads / kLanes;
constexpr int kMemories = kEpisodes / kCluster;                   // memories of a block
constexpr int kMemoryThreads = kPersistentThreads / kMemories;    // threads of a memory
constexpr int kMemoryWarps = kMemoryThreads / kLanes;
constexpr int kMostSlots = 128, kMostColumns = 40;                // of a memory; there are kHeads heads at most
constexpr int kVector = kHeads * kMostColumns;                    // numbers of all keys, of all adds, of all reads
constexpr int kMostUnits = kPersistentThreads / kEpisodes;        // hidden units of a block
constexpr int64_t kMostShared = 227 * 1024;                       // shared memory of a block on sm_90 and sm_100

// Parts of an interface vector in shared memory, with room for kHeads heads of kMostColumns columns.
constexpr int kKeys = 0, kAdds = kVector, kGates = 2 * kVector, kStrengths = kGates + kHeads;
constexpr int kInterface = kStrengths + kHeads;

// Sizes, and where the parts of shared memory begin, in numbers.
struct PersistentLayout {
  int D, N, W, R, I, O;
  int units, gate_rows, interface_rows;     // of a block; the last blocks may have fewer
  int hidden_columns, read_columns;         // D and R W, filled up with zeros to whole tiles
  int pitch, interface_pitch, hidden_pitch, read_pitch;
  int gate_weights, interface_weights, hidden, read, scratch, vectors, weights, usage, marks, slots, largest, sums, end;

  MANNKERN_HOST_TOO explicit PersistentLayout(const PersistentShape& s)
      : D(int(s.D)), N(int(s.shape.N)), W(int(s.shape.W)), R(int(s.shape.R)),
        I(2 * R * W + (s.strengths ? 2 : 1) * R), O(D + R * W), units(divide_up(D, kCluster)), gate_rows(4 * units),
        interface_rows(divide_up(I, kCluster)), hidden_columns(whole_tiles(D)), read_columns(whole_tiles(R * W)),
        pitch(pitch_of(hidden_columns + read_columns)), interface_pitch(pitch_of(hidden_columns)),
        hidden_pitch(pitch_of(hidden_columns)), read_pitch(pitch_of(read_columns)) {
    gate_weights = 0;
    interface_weights = gate_weights + gate_rows * pitch;
    hidden = interface_weights + interface_rows * interface_pitch;
    read = hidden + kEpisodes * hidden_pitch;
    scratch = read + kEpisodes * read_pitch;
    vectors = scratch + whole_tiles(scratch_size());
    weights = vectors + kMemories * kInterface;
    usage = weights + kMemories * kMostSlots * kHeads;
    marks = usage + kMemories * kMostSlots;
    slots = marks + kMemories * kMostSlots;
    largest = slots + kMemories * kHeads;
    sums = largest + kMemories * kHeads * kMemoryWarps;
    end = sums + kMemories * kHeads * kMemoryWarps;
  }
  // Partial sums of products, and of reads.
  MANNKERN_HOST_TOO int scratch_size() const {
    const int gates = kGateParts * gate_rows * kSumsPitch, interface = kInterfaceParts * interface_rows * kSumsPitch;
    const int reads = kMemories * kMemoryWarps * kVector, most = gates > interface ? gates : interface;
    return most > reads ? most : reads;
  }
  MANNKERN_HOST_TOO int64_t bytes() const { return int64_t(end) * sizeof(float); }

  // A product's columns are split into parts, so that all warps have work.
  static constexpr int kGateParts = 2, kInterfaceParts = 4;
};

// Why the persistent kernels cannot take these sizes; null if they can.
inline const char* persistent_why_not(const PersistentShape& s) {
  if (s.shape.R > kHeads) return "R is more than 4";
  if (s.shape.W > kMostColumns) return "W is more than 40";
  if (s.shape.N > kMostSlots) return "N is more than 128";
  if (s.D > kCluster * kMostUnits) return "D is more than 256";
  return PersistentLayout(s).bytes() <= kMostShared ? nullptr : "the weights do not fit in the shared memory of 8 blocks";
}

}  // namespace mannkern
