// Checks of each access to memory in a cluster: races by the clocks of warps, bounds, undefined values.
#pragma once

#include "cluster.h"

namespace ptx {

// A lane's access. `undefined`: bits of the bytes that a store brings undefined; `same`: it stores what is there.
struct Access {
  Warp& warp;
  const Instruction& instruction;
  int lane;
  u64 address;
  int bytes;
  bool writes;
  u32 undefined;
  bool same = false;

  u32 thread() const { return u32(warp.id * kLanes + lane); }
  void error(const char* kind, u32 other_pc = 0, const std::string& more = "") const {
    warp.machine->error(kind, instruction.pc, other_pc, describe(warp, lane, address) + more);
  }
  void race(const std::string& kind, u32 other_pc, int other) const {
    error(kind.c_str(), other_pc, ", with thread " + std::to_string(other));
  }
};

// `own`: of the access; `clock`: what its warp knew.
inline void check_order(const Access& a, const Stamp& other, const Stamp& own, const Clock& clock, const char* memory,
                        const char* pair) {
  const Cluster& c = *a.warp.machine->cluster;
  const u32 thread = other.thread % c.threads;
  const std::string with = other.cluster == own.cluster ? " of block " + std::to_string(other.thread / c.threads) : "";
  if (!is_known(other, own.cluster, clock)) {
    const std::string kind = a.same ? "benign race: the same value written" : std::string("race in ") + memory + ": ";
    a.error((a.same ? kind : kind + pair).c_str(), other.pc, ", with thread " + std::to_string(thread) + with);
  } else if (other.agent == own.agent && other.warp_epoch == own.warp_epoch && !a.same &&
             other.step > a.warp.ordered && (other.many_lanes || other.thread != own.thread)) {
    const bool at_once = other.pc == own.pc;
    if (at_once && pair[0] == 'r') return;
    a.race(at_once ? "lanes of a warp store different values to one place at once"
                   : std::string("lanes of a warp without barrier: ") + pair,
           other.pc, int(thread));
  }
}

// Checks an access of one unit of memory, and remembers it.
inline void touch(const Access& a, ClusterShadow& s, const Stamp& own, const Clock& clock, const char* memory) {
  if (s.written) check_order(a, s.write, own, clock, memory, a.writes ? "write, write" : "write, read");
  if (a.writes) {
    for (const Stamp& read : s.reads) check_order(a, read, own, clock, memory, "read, write");
    s.reads.clear();
    s.write = own;
    s.written = true;
    return;
  }
  for (Stamp& read : s.reads)
    if (read.agent == own.agent && read.cluster == own.cluster) {
      const bool many =
          read.warp_epoch == own.warp_epoch && (read.many_lanes || read.thread != own.thread);
      read = own;
      read.many_lanes = many;
      return;
    }
  s.reads.push_back(own);
}

// A place in a block's shared memory, after all checks; null where it is bad.
inline u8* place_in_block(Access& a, u32 rank, u64 at, const u8* from, const Stamp& own, const Clock& clock,
                          u32& undefined) {
  Machine& m = *a.warp.machine;
  Cluster& c = *m.cluster;
  if (rank >= c.blocks.size() || at + a.bytes > c.blocks[rank].shared.size()) {
    a.error("out of bounds, shared");
    return nullptr;
  }
  Block& b = c.blocks[rank];
  if (b.warps_left == 0) a.error("shared memory of a block that has left");
  const u32 warps = c.warps / u32(c.blocks.size());
  for (u32 k = rank * warps; rank != a.warp.block && k < (rank + 1) * warps; ++k)
    if (clock[k] == 0) {
      a.error("shared memory of a block that may not have begun");
      break;
    }
  const int unit = m.program->shared_unit, units = a.bytes < unit ? 1 : a.bytes / unit;
  const int each = a.bytes < unit ? a.bytes : unit;
  const u32 all = (1u << each) - 1;
  a.same = a.writes && !memcmp(&b.shared[at], from, a.bytes);
  for (int k = 0; k < units; ++k) {
    ClusterShadow& s = b.shadow[at / unit + k];
    if (s.is_mbarrier) a.error("ordinary access of an mbarrier");
    if (!a.writes && (!s.written || s.undefined)) undefined |= all << (k * each);
    if (m.check) touch(a, s, own, clock, "shared memory");
    if (a.writes) {
      s.written = true;
      s.undefined = a.undefined >> (k * each) & all;
    }
  }
  return &b.shared[at];
}

// Of an address of the window of shared::cluster; an address of the block's own window is in it too.
inline u8* place_in_cluster(Access& a, u64 address, const u8* from, u32& undefined) {
  const bool is_mapped = address >= kClusterWindow;
  const u64 at = is_mapped ? address - kClusterWindow : address;
  const u32 rank = is_mapped ? u32(at >> kBlockShift) : a.warp.block;
  return place_in_block(a, rank, is_mapped ? at & ((1u << kBlockShift) - 1) : at, from,
                        stamp(a.warp, a.instruction.pc, a.lane), a.warp.clock, undefined);
}

}  // namespace ptx
