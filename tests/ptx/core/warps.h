// A warp: which of its lanes run, until they meet a barrier of the block.
//
// Lanes that branch apart form groups. The group of the lowest pc runs, and groups merge where they meet.
#pragma once

#include <algorithm>

#include "cluster_instructions.h"

namespace ptx {

constexpr i64 kMostSteps = 400000000;  // of a warp between two barriers

inline void merge_groups(Warp& w) {
  for (int a = 0; a < w.num_groups; ++a)
    for (int b = a + 1; b < w.num_groups; ++b)
      if (w.groups[a].pc == w.groups[b].pc) {
        w.groups[a].mask |= w.groups[b].mask;
        w.groups[a].waits = false;
        w.groups[b--] = w.groups[--w.num_groups];
      }
}

// The group of the lowest pc that does not wait; -1 if all wait.
inline int next_group(Warp& w) {
  if (w.num_groups == 1) return 0;
  merge_groups(w);
  int next = -1;
  for (int k = 0; k < w.num_groups; ++k)
    if (!w.groups[k].waits && (next < 0 || w.groups[k].pc < w.groups[next].pc)) next = k;
  return next;
}

inline bool deadlock(Warp& w) {
  std::string text = "lanes wait at different instructions:";
  for (int k = 0; k < w.num_groups; ++k)
    text += " pc " + std::to_string(w.groups[k].pc) + " mask " + std::to_string(w.groups[k].mask);
  w.machine->error("deadlock in a warp", w.groups[0].pc, 0, text);
  return false;
}

// The lanes of a group whose guard is true.
inline u32 guarded(Warp& w, const Instruction& i, u32 mask) {
  if (i.guard_offset < 0) return mask;
  const Operand guard{u32(i.guard_offset), u32(i.guard_id), 0};
  if (const u32 bits = undefined(w, guard) & mask)
    w.machine->error(i.kind == kBranch ? "branch on an undefined predicate" : "undefined guard predicate", i.pc, 0,
                     describe(w, first_lane(bits), 0));
  return mask & (i.negated ? ~predicate(w, guard) : predicate(w, guard));
}

inline void branch(Warp& w, Group& g, const Instruction& i, u32 mask) {
  const u32 all = g.mask;
  g.mask &= ~mask;
  ++g.pc;
  if (mask == all) {
    g = {i.target, mask, false};
  } else if (mask) {
    w.groups[w.num_groups++] = {i.target, mask, false};
    w.machine->lanes[i.pc]++;  // here: how often lanes part
  }
}

inline void leave(Warp& w, Group& g, u32 mask) {
  for (const Copy& copy : w.copies)
    if (has(mask, copy.lane))
      w.machine->error("copy that nobody waits for", copy.instruction->pc, g.pc, describe(w, copy.lane, copy.to));
  w.alive &= ~mask;
  g.mask &= ~mask;
  ++g.pc;
  if (g.mask == 0) g = w.groups[--w.num_groups];
  for (int k = 0; k < w.num_groups; ++k) w.groups[k].waits = false;
}

// Whether a group may execute an instruction that needs all lanes of its member mask; otherwise it waits for them.
inline bool all_members(Warp& w, Group& g, const Instruction& i) {
  const bool has_mask = i.num_sources && i.target != ~0u;
  const u32 members = has_mask ? u32(get(w, i.s[i.target], first_lane(g.mask))) : kAllLanes, need = members & w.alive;
  if ((g.mask & need) != need) {
    g.waits = true;
    return false;
  }
  Machine& m = *w.machine;
  const bool full_warps = m.block[0] * m.block[1] * m.block[2] % kLanes == 0;
  if (members & ~w.alive && full_warps) m.error("member mask with lanes that have left", i.pc, 0, describe(w, 0, 0));
  if (g.mask & ~members) m.error("lane outside of the member mask", i.pc, 0, describe(w, 0, 0));
  return true;
}

// Runs a warp until a barrier of the block, or its end; false on deadlock.
inline bool run_warp(Warp& w) {
  Machine& m = *w.machine;
  while (w.num_groups) {
    const int next = next_group(w);
    if (next < 0) return deadlock(w);
    Group& g = w.groups[next];
    const Instruction& i = m.program->code[g.pc];
    const u32 mask = guarded(w, i, g.mask);
    if (++w.steps > kMostSteps) {
      m.error("endless", i.pc, 0, "");
      return false;
    }
    if (i.kind == kTogether && !all_members(w, g, i)) {
      if (w.num_groups == 1) return deadlock(w);
      continue;
    }
    const bool waits_for_lanes = i.kind == kBarrier || (i.kind == kWait && i.num_results == 0);
    if (waits_for_lanes && g.mask != w.alive) {
      g.waits = true;
      if (w.num_groups == 1) return deadlock(w);
      continue;
    }
    if (i.kind == kWait || (i.kind == kBarrier && m.cluster)) {
      if (!in_cluster(w, i)) return false;
      if (mask && !proceed(w, i, mask)) {
        if (w.num_groups == 1) return true;
        g.waits = true;
        continue;
      }
      m.count[i.pc]++;
      ++g.pc;
      continue;
    }
    m.count[i.pc]++;
    if (i.kind == kBranch) {
      branch(w, g, i, mask);
    } else if (i.kind == kReturn) {
      leave(w, g, mask);
    } else {
      ++g.pc;
      if (i.kind == kBarrier) {
        if (w.alive != kAllLanes) m.error("barrier of a block after lanes have left", i.pc, 0, describe(w, 0, 0));
        return w.at_barrier = true;
      }
      if (mask) i.execute(w, i, mask);
    }
  }
  return w.done = true;
}

inline void begin_warp(Warp& w, u32 left, u64& junk) {
  const Program& p = *w.machine->program;
  w.done = w.at_barrier = false;
  w.steps = 0;
  w.copies.clear();
  std::fill_n(w.copy_groups, kLanes, 0);
  w.epoch = ++w.machine->clock;
  for (i64 at = 0; at < p.register_bytes; at += 8) {
    junk = junk * 6364136223846793005ull + 1442695040888963407ull;
    memcpy(w.values + at, &junk, 8);
  }
  std::fill_n(w.undefined, p.num_registers, kAllLanes);
  for (size_t k = 0; k < p.constants.size(); k += 4) {
    const i64* c = &p.constants[k];
    const Operand o{u32(c[0]), u32(c[1]), u32(c[2])};
    if (o.width == 0)
      predicate(w, o) = c[3] ? kAllLanes : 0;
    else
      each_lane(kAllLanes, [&](int l) { set(w, o, l, u64(c[3])); });
    w.undefined[o.id] = 0;
  }
  w.alive = left >= kLanes ? kAllLanes : (1u << left) - 1;
  w.num_groups = 1;
  w.groups[0] = {0, w.alive, false};
}

}  // namespace ptx
