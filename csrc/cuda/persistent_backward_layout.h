// What a block of the persistent backward kernel keeps in shared memory.
//
// A block has the gates' weights of its hidden units, transposed, and multiplies them with the gradients of these
// gates: that gives a part of the gradients of all of [h, r], which goes to the blocks that have the units and the
// memories. Of the interface's weights a block has the columns of its units.
#pragma once

#include "persistent_layout.h"

namespace mannkern {

// Parts of the gradient of an interface vector: keys and adds as in the vector, gates, strengths.
constexpr int kGradGates = 2 * kVector, kGradStrengths = kGradGates + kHeads, kGradInterface = kGradStrengths + kHeads;

// The row of the interface vector that has place `place` of kGradInterface; -1 if none has.
MANNKERN_HOST_TOO int row_of_place(int place, int R, int W, int I) {
  if (place < kGradGates) {
    const int h = place % kVector / kMostColumns, j = place % kMostColumns;
    return h < R && j < W ? (place / kVector * R + h) * W + j : -1;
  }
  const int h = (place - kGradGates) % kHeads, row = 2 * R * W + (place < kGradStrengths ? 0 : R) + h;
  return h < R && row < I ? row : -1;
}

struct PersistentBackwardLayout {
  static constexpr int kInterfaceParts = 8;  // of the interface product's columns, so that all warps have work
  // Numbers of each head: of every warp its sums of weights times gradients, of weights times cosines, of the gate and
  // of the strength; and the norm of the key and its inverse.
  static constexpr int kMeans = 0, kCenters = kHeads * kMemoryWarps, kGateSums = 2 * kCenters,
                       kStrengthSums = 3 * kCenters, kKeyNorms = 4 * kCenters, kKeyInverses = kKeyNorms + kHeads,
                       kStatistics = kKeyInverses + kHeads;

  // Parts of one size come first: their places are constants, for which no registers are needed. Blocks of the cluster
  // give the gradients of interface vectors, and of r (`reads`) and h (`hidden`).
  static constexpr int interface_pitch = pitch_of(kGradInterface), grad_vectors = 0,
                       reads = grad_vectors + kEpisodes * interface_pitch, read = reads + kCluster * kVector,
                       vector = read + kVector, weights = whole_tiles(vector + kInterface),
                       other_weights = weights + kMostSlots * kHeads,
                       statistics = other_weights + kMostSlots * kHeads, inboxes = statistics + kStatistics,
                       gate_weights = whole_tiles(inboxes + 2 * 2);

  int D, N, W, R, I, O;
  int units, gates;             // hidden units of a block, and their gates
  int outputs, hidden_outputs;  // rows of the transposed weights: units of all blocks, then r; units alone
  int pitch;                    // of the gates' weights, and of what they are multiplied with
  int interface_weights, grad_gates, hidden, sums, parts, end;

  MANNKERN_HOST_TOO explicit PersistentBackwardLayout(const PersistentShape& s)
      : D(int(s.D)), N(int(s.shape.N)), W(int(s.shape.W)), R(int(s.shape.R)),
        I(2 * R * W + (s.strengths ? 2 : 1) * R), O(D + R * W), units(divide_up(D, kCluster)), gates(4 * units),
        outputs(kCluster * units + R * W), hidden_outputs(kCluster * units), pitch(pitch_of(whole_tiles(gates))) {
    interface_weights = gate_weights + weight_size(outputs, pitch);
    grad_gates = interface_weights + weight_size(units, interface_pitch);
    hidden = grad_gates + kEpisodes * pitch;
    // the memory's sums over its warps, and the interface product's, which are never needed at the same time
    parts = sums = hidden + kCluster * kEpisodes * units;
    const int of_memory = 2 * kMemoryWarps * kVector, of_product = kInterfaceParts * units * kSumsPitch;
    end = parts + (of_memory > of_product ? of_memory : of_product);
  }
  MANNKERN_HOST_TOO int64_t bytes() const { return int64_t(end) * sizeof(float); }
};

// Why the persistent kernels cannot take these sizes; null if they can.
inline const char* persistent_why_not(const PersistentShape& s) {
  if (s.shape.R > kHeads) return "R is more than 4";
  if (s.shape.W > kMostColumns) return "W is more than 40";
  if (s.shape.N > kMostSlots) return "N is more than 128";
  if (s.D > kCluster * kMostUnits) return "D is more than 256";
  const int64_t forward = PersistentLayout(s).bytes(), backward = PersistentBackwardLayout(s).bytes();
  return forward > kMostShared || backward > kMostShared ? "the weights do not fit in the shared memory of 8 blocks"
                                                         : nullptr;
}

}  // namespace mannkern
