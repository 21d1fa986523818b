// What warps of a cluster tell each other with: barriers of threads, mbarriers, and stores to other blocks.
#pragma once

#include "memory.h"

namespace ptx {

inline bool in_cluster(Warp& w, const Instruction& i) {
  if (!w.machine->cluster) w.machine->error("instruction of a cluster, but the launch has none", i.pc, 0, "");
  return w.machine->cluster;
}

inline bool all_defined(Warp& w, const Instruction& i, u32 mask) {
  u32 bits = 0;
  for (int k = 0; k < i.num_sources; ++k) bits |= undefined(w, i.s[k]) & mask;
  if (bits) w.machine->error("undefined address", i.pc, 0, describe(w, first_lane(bits), 0));
  return !bits;
}

// A warp comes to a barrier of `threads` threads.
inline void come(Warp& w, const Instruction& i, Meeting& b, u32 threads, bool waits) {
  Machine& m = *w.machine;
  if (b.clock.empty()) b.clock = m.cluster->new_clock();
  join(b.clock, w.clock);
  ++w.clock[w.agent];
  b.came += kLanes;
  if (waits) b.waiting.push_back(&w), w.waits = Warp::kAtMeeting;
  if (b.came > threads) m.error("more threads at a barrier than it is for", i.pc, 0, describe(w, 0, 0));
  if (b.came < threads) return;
  for (Warp* other : b.waiting) {
    join(other->clock, b.clock);
    other->waits = Warp::kIsReleased;
    other->epoch = ++m.clock;
  }
  b = {};
}

// Barriers have a number and, but for those of all threads of a block, a count of threads.
inline void come_to_named(Warp& w, const Instruction& i, bool waits) {
  const u32 lane = first_lane(w.alive), threads = w.machine->cluster->threads;
  const u64 id = i.num_sources ? get(w, i.s[0], lane) : 0, count = i.num_sources > 1 ? get(w, i.s[1], lane) : threads;
  if (!all_defined(w, i, w.alive)) return;
  if (id >= kNamedBarriers || count % kLanes || count > threads)
    return w.machine->error("barrier that does not exist", i.pc, 0, describe(w, 0, 0));
  come(w, i, block_of(w).meetings[id], u32(count), waits);
}

inline void arrive_at_barrier(Warp& w, const Instruction& i, u32) {
  if (in_cluster(w, i)) come_to_named(w, i, false);
}

// A barrier of the cluster is in two parts, so that its waiters are those that have arrived.
inline void arrive_in_cluster(Warp& w, const Instruction& i, u32) {
  if (!in_cluster(w, i)) return;
  Cluster& c = *w.machine->cluster;
  come(w, i, c.meeting, c.warps * kLanes, true);
}

inline Mbarrier* mbarrier_at(Warp& w, const Instruction& i, u32 rank, u64 at, const Clock& clock) {
  Cluster& c = *w.machine->cluster;
  if (rank < c.blocks.size()) {
    const auto found = c.blocks[rank].mbarriers.find(u32(at));
    if (found != c.blocks[rank].mbarriers.end()) {
      if (!is_known(found->second.init, c.number, clock))
        w.machine->error("mbarrier whose init may come later", i.pc, found->second.init.pc, describe(w, 0, at));
      return &found->second;
    }
  }
  w.machine->error("no mbarrier", i.pc, 0, describe(w, 0, at));
  return nullptr;
}

inline void init_mbarrier(Warp& w, const Instruction& i, u32 mask) {
  if (!in_cluster(w, i) || !all_defined(w, i, mask)) return;
  Cluster& c = *w.machine->cluster;
  each_lane(mask, [&](int l) {
    const u64 at = get(w, i.s[0], l) + i.immediate;
    Access a{w, i, l, at, 8, true, 0};
    u8 junk[8];
    for (u8& byte : junk) byte = u8(w.machine->random());
    u32 unused;
    const Stamp own = stamp(w, i.pc, l);
    if (at % 8) return a.error("misaligned");
    if (c.num_mbarriers == kMostMbarriers) return a.error("more mbarriers than the emulator has");
    if (!place_in_block(a, w.block, at, junk, own, w.clock, unused)) return;
    Block& b = block_of(w);
    for (u64 k = at; k < at + 8; k += w.machine->program->shared_unit)
      b.shadow[k / w.machine->program->shared_unit].is_mbarrier = true;
    const u32 count = u32(get(w, i.s[1], l));
    b.mbarriers[u32(at)] = {c.warps + c.num_mbarriers++, count, 0, count, 0, own, c.new_clock(), c.new_clock()};
  });
}

inline void finish_phase(Warp& w, const Instruction& i, Mbarrier& b) {
  if (b.pending < 0) w.machine->error("more arrivals at an mbarrier than it is for", i.pc, 0, describe(w, 0, 0));
  if (b.pending > 0 || b.bytes > 0) return;
  if (b.bytes < 0) w.machine->error("more bytes came to an mbarrier than were expected", i.pc, 0, describe(w, 0, 0));
  join(b.complete, b.arriving);
  b.complete[b.agent] = ++b.phase;
  b.arriving = w.machine->cluster->new_clock();
  b.received = std::move(b.sent);
  b.sent.clear();
  b.pending = b.count, b.bytes = 0;
}

inline void expect_bytes(Warp& w, const Instruction& i, u32 mask) {
  if (!in_cluster(w, i) || !all_defined(w, i, mask)) return;
  each_lane(mask, [&](int l) {
    Mbarrier* b = mbarrier_at(w, i, w.block, get(w, i.s[0], l) + i.immediate, w.clock);
    if (!b) return;
    join(b->arriving, w.clock);
    b->bytes += i64(get(w, i.s[1], l)), --b->pending;
    finish_phase(w, i, *b);
  });
  ++w.clock[w.agent];
}

// Whether the phase that a warp waits for is complete.
inline bool is_complete(const Warp& w) {
  const auto& all = block_of(w).mbarriers;
  const auto found = all.find(u32(w.mbarrier));
  return found == all.end() || (found->second.phase & 1) != w.parity;
}

// Runs an instruction that waits; false if it has to wait and is to be run again. A trial may fail without a reason, as
// on a GPU, so that a kernel that does not try again is found.
inline bool proceed(Warp& w, const Instruction& i, u32 mask) {
  Machine& m = *w.machine;
  if (i.kind == kBarrier || i.immediate == 0) {
    if (w.waits == Warp::kRuns) come_to_named(w, i, true);
  } else if (i.immediate == 1) {
    if (w.waits == Warp::kRuns) m.error("wait for a barrier of the cluster without arrival", i.pc, 0, describe(w, 0, 0));
  } else {
    if (!all_defined(w, i, mask)) return true;
    const int lane = first_lane(mask);
    w.mbarrier = get(w, i.s[0], lane), w.parity = u32(get(w, i.s[1], lane)) & 1;
    each_lane(mask, [&](int l) {
      if (get(w, i.s[0], l) != w.mbarrier) m.error("lanes wait for different mbarriers", i.pc, 0, describe(w, l, 0));
    });
    const Mbarrier* b = mbarrier_at(w, i, w.block, w.mbarrier, w.clock);
    if (b && !is_complete(w)) {
      w.waits = Warp::kAtMbarrier;
      return false;
    }
    w.waits = Warp::kRuns;
    const bool done = b && m.random() % 4;
    if (done) join(w.clock, b->complete);
    const auto own = done ? b->received.find(w.agent) : b->received.end();
    if (own != b->received.end()) {
      u32 first = ~0u;
      each_lane(w.alive, [&](int l) { first = std::min(first, own->second[l]); });
      w.ordered = std::max(w.ordered, first);
    }
    set_predicate(w, i.d[0], mask, done ? kAllLanes : 0);
    set_undefined(w, i.d[0], mask, 0);
    return true;
  }
  if (w.waits == Warp::kAtMeeting) return false;
  w.waits = Warp::kRuns;
  return true;
}

// Sources: the place, a number, the mbarrier that counts its bytes; both in the window of shared::cluster.
inline void store_later(Warp& w, const Instruction& i, u32 mask) {
  if (!in_cluster(w, i)) return;
  u64 address[kLanes];
  for (int l = 0; l < kLanes; ++l) address[l] = get(w, i.s[0], l) + i.immediate;
  count_cost(w, i, mask, address, 4);
  for (int k : {0, 2})
    if (const u32 bits = undefined(w, i.s[k]) & mask)
      return w.machine->error("undefined address", i.pc, 0, describe(w, first_lane(bits), 0));
  Cluster& c = *w.machine->cluster;
  const auto clock = std::make_shared<const Clock>(w.clock);
  ++w.clock[w.agent];
  const u32 epoch = ++w.machine->clock;
  each_lane(mask, [&](int l) {
    const u64 to = address[l], barrier = get(w, i.s[2], l), in_block = (1u << kBlockShift) - 1;
    Access a{w, i, l, to, 4, true, 0};
    if (to < kClusterWindow || barrier < kClusterWindow) return a.error("address of no block of the cluster");
    if ((to ^ barrier) >> kBlockShift) return a.error("mbarrier of another block than the store's");
    if (to % 4) return a.error("misaligned");
    c.parcels.push_back({&i, &w, l, u32((to - kClusterWindow) >> kBlockShift), u32(to & in_block),
                         u32(barrier & in_block), u32(get(w, i.s[1], l)), has(undefined(w, i.s[1]), l), epoch, u32(w.steps), clock});
  });
}

// A number lands: it is stored and counted at once.
inline void land(const Parcel& p) {
  Warp& w = *p.warp;
  const Instruction& i = *p.instruction;
  Mbarrier* b = mbarrier_at(w, i, p.block, p.mbarrier, *p.clock);
  if (!b) return;
  Access a{w, i, p.lane, p.to, 4, true, p.is_undefined ? 15u : 0};
  const Stamp own{w.machine->cluster->number, b->agent, b->phase + 1, p.epoch, i.pc, stamp(w, 0, p.lane).thread, p.step, false};
  u32 unused;
  u8 from[4];
  memcpy(from, &p.number, 4);
  if (u8* place = place_in_block(a, p.block, p.to, from, own, *p.clock, unused)) memcpy(place, from, 4);
  join(b->arriving, *p.clock);
  u32& last = b->sent[w.agent][p.lane];
  last = std::max(last, p.step);
  b->bytes -= 4;
  finish_phase(w, i, *b);
}

// The address of a place in another block's shared memory; undefined if the cluster has no such block.
inline void map_address(Warp& w, const Instruction& i, u32 mask) {
  if (!in_cluster(w, i)) return;
  u32 bad = 0;
  each_lane(mask, [&](int l) {
    const u64 at = get(w, i.s[0], l), rank = get(w, i.s[1], l);
    const bool exists = !(at >> kBlockShift) && rank < w.machine->cluster->blocks.size();
    if (!exists) bad |= 1u << l;
    set(w, i.d[0], l, exists ? kClusterWindow | rank << kBlockShift | at : w.machine->random());
  });
  follow_sources(w, i, mask);
  set_undefined(w, i.d[0], mask, undefined(w, i.d[0]) | bad);
}

}  // namespace ptx
