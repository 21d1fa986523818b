// A cluster of thread blocks that run side by side, and which accesses of its threads to memory are ordered.
//
// Every warp has a clock by agent: what it knows of each warp, and how many phases of each mbarrier it knows to be
// complete. Barriers and mbarriers join clocks. Two accesses of one place, one of them a store, are a race unless the
// later one's clock has the time of the earlier one.
#pragma once

#include <array>
#include <memory>

#include "machine.h"

namespace ptx {

constexpr u32 kMostMbarriers = 64, kNamedBarriers = 16;
constexpr u64 kClusterWindow = 0x40000000, kBlockShift = 20;  // of addresses that mapa gives

inline void join(Clock& to, const Clock& from) {
  for (size_t k = 0; k < to.size(); ++k) to[k] = std::max(to[k], from[k]);
}

// When and by whom a place was accessed. many_lanes: by more than one lane since the warp's last barrier.
struct Stamp {
  u32 cluster, agent, time, warp_epoch, pc, thread, step;
  bool many_lanes;
};

inline bool is_known(const Stamp& s, u32 cluster, const Clock& clock) {
  return s.cluster == cluster && s.time <= clock[s.agent];
}

// Of a unit of memory. `reads` are those since the last write, one of each warp.
struct ClusterShadow {
  Stamp write;
  bool written, undefined, is_mbarrier;
  std::vector<Stamp> reads;
};

// A barrier of threads of a block, or of the cluster.
struct Meeting {
  u32 came = 0;
  Clock clock;
  std::vector<Warp*> waiting;
};

struct Mbarrier {
  u32 agent, count, phase;
  i64 pending, bytes;  // bytes: those expected that have not come
  Stamp init;
  Clock arriving, complete;  // what is known by those that arrived, and by who waits for the last complete phase
  std::map<u32, std::array<u32, kLanes>> sent, received;  // of those phases: the last step of each lane that sent to it
};

// A number that st.async has sent to a block, where it lands at any time from then on. `clock` is the sender's.
struct Parcel {
  const Instruction* instruction;
  Warp* warp;
  int lane;
  u32 block, to, mbarrier, number;
  bool is_undefined;
  u32 epoch, step;
  std::shared_ptr<const Clock> clock;
};

struct Block {
  std::vector<u8> shared;
  std::vector<ClusterShadow> shadow;
  std::vector<Meeting> meetings = std::vector<Meeting>(kNamedBarriers);
  std::map<u32, Mbarrier> mbarriers;  // by place
  u32 warps_left;
};

struct Cluster {
  u32 number, first_block, warps;  // warps: of all blocks
  u32 threads;                     // of a block
  std::vector<Block> blocks;
  Meeting meeting;
  std::vector<Parcel> parcels;
  u32 num_mbarriers = 0;

  Clock new_clock() const { return Clock(warps + kMostMbarriers); }
};

inline Block& block_of(const Warp& w) { return w.machine->cluster->blocks[w.block]; }

inline Stamp stamp(const Warp& w, u32 pc, int lane) {
  return {w.machine->cluster->number, w.agent, w.clock[w.agent], w.epoch, pc, w.agent * kLanes + u32(lane), u32(w.steps), false};
}

}  // namespace ptx
