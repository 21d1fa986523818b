// What a block of the persistent backward kernel keeps in shared memory.
//
// A block has the gates' weights of its hidden units, transposed, and multiplies them with the gradients of these gates:
// that gives a part of the gradients of all of [h, r], which goes to the blocks that have the units and the memories.
// Of the interface's weights a block has the columns of its units.
#pragma once

#include "persistent_layout.h"

namespace mannkern {

// The row of the interface vector that has place `place` of kInterface in shared memory; -1 if none has.
MANNKERN_HOST_TOO int row_of_place(int place, int R, int W, int I) {
  if (place < kGates) {
    const int h = place % kVector / kMostColumns, j = place % kMostColumns;
    return h < R && j < W ? (place / kVector * R + h) * W + j : -1;
  }
  const int h = (place - kGates) % kHeads, row = 2 * R * W + (place < kStrengths ? 0 : R) + h;
  return h < R && row < I ? row : -1;
}

struct PersistentBackwardLayout {
  static constexpr int kInterfaceParts = 8;  // of the interface product's columns, so that all warps have work

  int D, N, W, R, I, O;
  int units, gates;                   // hidden units of a block, and their gates
  int outputs, hidden_outputs;        // rows of the transposed weights: units of all blocks, then r; units alone
  int pitch, interface_pitch;         // of the two weights; also of their vectors
  int gate_weights, interface_weights, vectors, sums, grad_gates, hidden, reads, parts, read, weights, statistics, end;

  MANNKERN_HOST_TOO explicit PersistentBackwardLayout(const PersistentShape& s)
      : D(int(s.D)), N(int(s.shape.N)), W(int(s.shape.W)), R(int(s.shape.R)),
        I(2 * R * W + (s.strengths ? 2 : 1) * R), O(D + R * W), units(divide_up(D, kCluster)), gates(4 * units),
        outputs(kCluster * units + R * W), hidden_outputs(kCluster * units), pitch(pitch_of(whole_tiles(gates))),
        interface_pitch(pitch_of(kInterface)) {
    gate_weights = 0;
    interface_weights = gate_weights + outputs * pitch;
    // the vectors of all episodes; after their product, its partial sums and the gradients of the gates
    vectors = interface_weights + units * interface_pitch;
    sums = vectors;
    grad_gates = sums + whole_tiles(kInterfaceParts * units * kSumsPitch);
    const int after_product = grad_gates + kEpisodes * pitch, after_vectors = vectors + kEpisodes * interface_pitch;
    // what the blocks of the cluster give: gradients of h and of r; while a memory is worked on, sums of its warps
    hidden = after_product > after_vectors ? after_product : after_vectors;
    reads = hidden + whole_tiles(kCluster * kEpisodes * units);
    parts = hidden;
    const int after_parts = parts + kMemories * 2 * kMemoryWarps * kVector;
    read = reads + (kCluster - 1) * kMemories * kVector;  // the sum of what was given, in place of the last part
    if (read < after_parts) read = after_parts;
    weights = read + kMemories * kVector;
    statistics = weights + kMemories * kMostSlots * kHeads;
    end = statistics + kMemories * kStatistics;
  }
  MANNKERN_HOST_TOO int64_t bytes() const { return int64_t(end) * sizeof(float); }

  // Numbers of each head: of every warp its sums of weights times gradients, of weights times cosines, of the gate and
  // of the strength; and the norm of the key.
  static constexpr int kMeans = 0, kCenters = kHeads * kMemoryWarps, kGateSums = 2 * kCenters,
                       kStrengthSums = 3 * kCenters, kKeyNorms = 4 * kCenters, kStatistics = kKeyNorms + kHeads;
};

}  // namespace mannkern
