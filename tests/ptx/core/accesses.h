// Checks of each access to memory: bounds, alignment, undefined values, races.
#pragma once

#include "cluster_accesses.h"

namespace ptx {

inline std::string in_memory(bool shared, const char* pair) {
  return std::string("race of warps in ") + (shared ? "shared" : "global") + " memory: " + pair;
}

inline void after_write(const Access& a, const Shadow& s, bool shared) {
  const Machine& m = *a.warp.machine;
  if (s.write_epoch < m.launch_start) return;
  const bool other_warp = s.writer / kLanes != a.warp.id, benign = a.writes && a.same;
  const char* pair = a.writes ? "write, write" : "write, read";
  if (s.write_epoch < m.block_start) {
    if (!shared) a.race(std::string("race between blocks: ") + pair, s.write_pc, s.writer);
  } else if (s.write_epoch == m.epoch && other_warp) {
    a.race(benign ? "benign race of warps: the same value written" : in_memory(shared, pair), s.write_pc, s.writer);
  } else if (!other_warp && s.write_warp_epoch == a.warp.epoch && s.writer != a.thread() && !benign) {
    const bool at_once = a.writes && s.write_pc == a.instruction.pc;
    a.race(at_once ? "lanes of a warp store different values to one place at once"
                   : std::string("lanes of a warp without barrier: ") + pair,
           s.write_pc, s.writer);
  }
}

inline void after_read(const Access& a, const Shadow& s, bool shared) {
  const Machine& m = *a.warp.machine;
  if (s.read_epoch < m.launch_start) return;
  const char* pair = "read, write";
  if (s.read_epoch < m.block_start) {
    if (!a.same && !shared) a.race(std::string("race between blocks: ") + pair, s.read_pc, s.reader);
  } else if (s.read_epoch == m.epoch && (s.many_warps || s.reader / kLanes != a.warp.id)) {
    a.race(a.same ? "benign race of warps: read, the same value written" : in_memory(shared, pair), s.read_pc,
           s.reader);
  } else if (s.read_warp_epoch == a.warp.epoch && (s.many_lanes || s.reader != a.thread()) &&
             s.read_pc != a.instruction.pc && !a.same) {
    a.race(std::string("lanes of a warp without barrier: ") + pair, s.read_pc, s.reader);
  }
}

// Checks an access of one unit of memory for races, and remembers it.
inline void touch(const Access& a, Shadow& s, bool shared, bool undefined) {
  const u32 epoch = a.warp.machine->epoch;
  after_write(a, s, shared);
  if (a.writes) {
    after_read(a, s, shared);
    s.write_epoch = epoch;
    s.write_warp_epoch = a.warp.epoch;
    s.writer = u16(a.thread());
    s.write_pc = a.instruction.pc;
    s.undefined = undefined;
  } else {
    s.many_warps = s.read_epoch == epoch && (s.many_warps || s.reader / kLanes != a.warp.id);
    s.many_lanes = s.read_warp_epoch == a.warp.epoch && (s.many_lanes || s.reader != a.thread());
    s.read_epoch = epoch;
    s.read_warp_epoch = a.warp.epoch;
    s.reader = u16(a.thread());
    s.read_pc = a.instruction.pc;
  }
}

inline u8* place_shared(Access& a, u64 at, const u8* from, u32& undefined) {
  Machine& m = *a.warp.machine;
  if (m.cluster) return place_in_cluster(a, at, from, undefined);
  if (at + a.bytes > m.shared.size()) {
    a.error("out of bounds, shared");
    return nullptr;
  }
  const int unit = m.program->shared_unit, units = a.bytes < unit ? 1 : a.bytes / unit;
  const int each = a.bytes < unit ? a.bytes : unit;
  const u32 all = (1u << each) - 1;
  Shadow* shadow = &m.shared_shadow[at / unit];
  a.same = a.writes && !memcmp(&m.shared[at], from, a.bytes);
  for (int k = 0; k < units; ++k) {
    Shadow& s = shadow[k];
    const bool brings_undefined = a.undefined >> (k * each) & all;
    if (!a.writes && (s.write_epoch < m.block_start || s.undefined)) undefined |= all << (k * each);
    if (m.check) {
      touch(a, s, true, brings_undefined);
    } else if (a.writes) {
      s.write_epoch = m.epoch;
      s.undefined = brings_undefined;
    }
  }
  return &m.shared[at];
}

inline u8* place_global(Access& a, const u8* from) {
  Machine& m = *a.warp.machine;
  const u64 index = a.address >> 40;  // as machine.py gives addresses
  if (index == 0 || index > m.buffers.size()) {
    a.error("wild pointer");
    return nullptr;
  }
  Buffer& b = m.buffers[index - 1];
  const i64 offset = i64(a.address - b.address);
  if (offset < 0 || offset + a.bytes > b.size) {
    a.error(a.writes ? "out of bounds, global store" : "out of bounds, global load", 0,
            " argument " + std::to_string(index - 1) + " offset " + std::to_string(offset) + " of " +
                std::to_string(b.size) + " bytes");
    return nullptr;
  }
  (*b.touched)[(a.address >> 5) - (b.address >> 5)] |= a.writes ? 2 : 1;
  if (a.undefined) a.error("undefined value stored to global memory");
  if (m.check) {
    a.same = a.writes && !memcmp(b.host + offset, from, a.bytes);
    const int units = a.bytes < b.unit ? 1 : a.bytes / b.unit;
    const Warp& w = a.warp;
    for (int k = 0; k < units; ++k)
      if (m.cluster)
        touch(a, b.cluster_shadow[offset / b.unit + k], stamp(w, a.instruction.pc, a.lane), w.clock, "global memory");
      else
        touch(a, b.shadow[offset / b.unit + k], false, false);
  }
  return b.host + offset;
}

// The host's place of an access, after all checks; null where it is bad. `from`: what a store brings. Sets bits of
// `undefined` for the bytes loaded that no instruction has defined.
inline u8* place(Access a, const u8* from, u32& undefined) {
  undefined = 0;
  int space = a.instruction.space;
  const bool in_window = space == kGeneric && a.address >= kSharedWindow;
  if (space == kGeneric) space = in_window ? kShared : kGlobal;
  if (a.address % a.bytes) {
    a.error("misaligned");
    return nullptr;
  }
  if (space == kCluster && a.warp.machine->cluster) return place_in_cluster(a, a.address, from, undefined);
  if (space == kShared || space == kCluster) return place_shared(a, in_window ? a.address - kSharedWindow : a.address, from, undefined);
  return place_global(a, from);
}

}  // namespace ptx
