// The launch of the persistent kernels. A Gpu of launch.h has for them also
//   launch_clusters(name, kernel, clusters, blocks of a cluster, threads, bytes of shared memory, the most that a
//                   block of any call has, argument)
#pragma once

#include "persistent_backward.h"
#include "persistent_forward.h"

namespace mannkern {

template <class Gpu>
void run_persistent(Gpu& gpu, const MANNPersistent& op) {
  if (op.sizes.B == 0 || op.sizes.T == 0) return;
  gpu.launch_clusters("mann_persistent", mann_persistent_kernel, divide_up(int(op.sizes.B), kEpisodes), kCluster,
                      kPersistentThreads, PersistentLayout(op.sizes).bytes(), kMostShared, op);
}

// Numbers of MANNPersistentBackward's scratch.
inline int64_t persistent_scratch(const PersistentShape& s) {
  return 2 * s.checkpoint_every * divide_up(int(s.B), kEpisodes) * kEpisodes * kMostSlots * kMostColumns;
}

template <class Gpu>
void run_persistent(Gpu& gpu, const MANNPersistentBackward& op) {
  if (op.sizes.B == 0 || op.sizes.T == 0) return;
  gpu.launch_clusters("mann_persistent_backward", mann_persistent_backward_kernel,
                      divide_up(int(op.sizes.B), kEpisodes), kCluster, kPersistentThreads,
                      PersistentBackwardLayout(op.sizes).bytes(), kMostShared, op);
}

}  // namespace mannkern
