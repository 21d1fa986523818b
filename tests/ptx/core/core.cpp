// Executes launches of decoded PTX, with warps and blocks in random order. machine.py calls it.

#include "table.h"
#include "warps.h"

namespace ptx {
namespace {

const Table table = make_table();
std::vector<Execute> functions;  // by the number that ptx_operation gave
u32 last_clock = 1;
std::string report;

void set_block(Machine& m, u64 b) {
  m.block_index[0] = u32(b % m.grid[0]);
  m.block_index[1] = u32(b / m.grid[0] % m.grid[1]);
  m.block_index[2] = u32(b / m.grid[0] / m.grid[1]);
}

// All warps that are not done are at a barrier: at the same one?
void meet(Machine& m, std::vector<Warp>& warps) {
  u32 waiting = 0, done = 0, pc = 0;
  bool differ = false;
  for (Warp& w : warps) {
    if (w.done)
      ++done;
    else if (w.at_barrier) {
      if (waiting++ && w.groups[0].pc != pc) differ = true;
      pc = w.groups[0].pc;
    }
  }
  if (differ) m.error("warps wait at different barriers", pc - 1, 0, "");
  if (waiting && done) m.error("barrier of a block after warps have left", pc ? pc - 1 : 0, 0, "");
  m.epoch = ++m.clock;
  for (Warp& w : warps) {
    w.at_barrier = false;
    w.epoch = ++m.clock;
  }
}

void run_block(Machine& m, std::vector<Warp>& warps, u32 threads) {
  m.block_start = m.epoch = ++m.clock;
  for (size_t at = 0; at + 8 <= m.shared.size(); at += 8) {
    const u64 junk = m.random();
    memcpy(&m.shared[at], &junk, 8);
  }
  u64 junk = m.random();
  for (Warp& w : warps) begin_warp(w, threads - kLanes * w.id, junk);
  for (bool stuck = false; !stuck;) {
    std::vector<Warp*> ready;
    for (Warp& w : warps)
      if (!w.done) ready.push_back(&w);
    if (ready.empty()) return;
    std::shuffle(ready.begin(), ready.end(), m.random);
    for (Warp* w : ready)
      if (!run_warp(*w)) stuck = true;
    meet(m, warps);
  }
}

// Runs the blocks of a cluster side by side: a warp until it waits, then a random one that can go on. Between them
// numbers land that were sent to other blocks.
void run_cluster(Machine& m, Cluster& c, std::vector<Warp>& warps) {
  for (Block& b : c.blocks) {
    for (size_t at = 0; at + 8 <= b.shared.size(); at += 8) {
      const u64 junk = m.random();
      memcpy(&b.shared[at], &junk, 8);
    }
    b.warps_left = c.warps / u32(c.blocks.size());
  }
  u64 junk = m.random();
  for (Warp& w : warps) {
    begin_warp(w, c.threads - kLanes * w.id, junk);
    w.clock = c.new_clock();
    w.clock[w.agent] = 1;
    w.waits = Warp::kRuns;
    w.ordered = 0;
  }
  const auto land_one = [&] {
    std::swap(c.parcels[m.random() % c.parcels.size()], c.parcels.back());
    const Parcel p = c.parcels.back();
    c.parcels.pop_back();
    set_block(m, c.first_block + p.warp->block);
    land(p);
  };
  std::vector<Warp*> ready;
  for (;;) {
    for (u64 dice = m.random() % 4; dice == 0 && !c.parcels.empty() && m.random() % 64;) land_one();
    ready.clear();
    for (Warp& w : warps)
      if (!w.done && w.waits != Warp::kAtMeeting && !(w.waits == Warp::kAtMbarrier && !is_complete(w)))
        ready.push_back(&w);
    if (ready.empty() && c.parcels.empty()) break;
    if (ready.empty()) {
      land_one();
      continue;
    }
    Warp& w = *ready[m.random() % ready.size()];
    set_block(m, c.first_block + w.block);
    if (!run_warp(w)) return;
    if (w.done) --c.blocks[w.block].warps_left;
  }
  for (const Warp& w : warps)
    if (!w.done)
      m.error("deadlock in a cluster", w.groups[0].pc, 0, "block " + std::to_string(w.block) + " warp " + std::to_string(w.id));
  for (Block& b : c.blocks)
    for (const auto& [at, barrier] : b.mbarriers)
      if (barrier.bytes) m.error("bytes of an mbarrier are left at the end", barrier.init.pc, 0, std::to_string(barrier.bytes));
}

// Shadows and marks of the tensors of a launch.
struct Memory {
  std::vector<std::vector<Shadow>> shadows;
  std::vector<std::vector<ClusterShadow>> cluster_shadows;
  std::vector<std::vector<u8>> touched;

  // rows: address, bytes, host, unit, index of the tensor that holds it (or its own), offset in that tensor
  Memory(Machine& m, const i64* rows, int count) : shadows(count), cluster_shadows(count), touched(count) {
    for (int k = 0; k < count; ++k) {
      const i64* r = rows + 6 * k;
      if (r[4] != k) continue;
      if (m.check && m.cluster) cluster_shadows[k].resize(r[1] / r[3] + 1);
      if (m.check && !m.cluster) shadows[k].resize(r[1] / r[3] + 1);
      touched[k].resize(r[1] / 32 + 3);
    }
    for (int k = 0; k < count; ++k) {
      const i64* r = rows + 6 * k;
      Shadow* shadow = shadows[r[4]].data() + r[5] / r[3];
      ClusterShadow* in_cluster = cluster_shadows[r[4]].data() + r[5] / r[3];
      m.buffers.push_back({u64(r[0]), r[1], reinterpret_cast<u8*>(r[2]), int(r[3]), shadow, in_cluster, &touched[r[4]]});
    }
  }

  i64 sectors(int bit) const {
    i64 sum = 0;
    for (const auto& marks : touched)
      for (const u8 mark : marks) sum += mark >> bit & 1;
    return sum;
  }
};

// The warps of a block, or of all blocks of a cluster, run after each other and use the same memory.
void run_blocks(Machine& m, u32 cluster_blocks, i64 shared_bytes) {
  const Program& p = *m.program;
  const u32 threads = m.block[0] * m.block[1] * m.block[2], warps_of_block = (threads + kLanes - 1) / kLanes;
  const u32 num_warps = warps_of_block * cluster_blocks;
  const size_t bytes = (p.register_bytes + 63) / 64 * 64;
  u8* values = static_cast<u8*>(aligned_alloc(64, std::max<size_t>(bytes * num_warps, 64)));
  std::vector<u32> undefined(p.num_registers * num_warps);
  std::vector<Warp> warps(num_warps);
  for (u32 k = 0; k < num_warps; ++k) {
    warps[k].machine = &m;
    warps[k].id = int(k % warps_of_block);
    warps[k].block = k / warps_of_block;
    warps[k].agent = k;
    warps[k].values = values + bytes * k;
    warps[k].undefined = undefined.data() + p.num_registers * k;
  }
  std::vector<u64> order(u64(m.grid[0]) * m.grid[1] * m.grid[2] / cluster_blocks);
  for (size_t k = 0; k < order.size(); ++k) order[k] = k;
  std::shuffle(order.begin(), order.end(), m.random);
  for (const u64 b : order) {
    if (m.cluster) {
      Cluster c{u32(b), u32(b) * cluster_blocks, num_warps, threads, std::vector<Block>(cluster_blocks), {}, {}, 0};
      for (Block& block : c.blocks) {
        block.shared.resize(shared_bytes);
        block.shadow.resize(shared_bytes / p.shared_unit + 1);
      }
      m.cluster = &c;
      run_cluster(m, c, warps);
    } else {
      set_block(m, b);
      run_block(m, warps, threads);
    }
  }
  free(values);
}

void write_report(const Machine& m) {
  report.clear();
  for (const auto& [where, what] : m.errors) {
    const auto& [kind, pc, other_pc] = where;
    for (const std::string& field : {kind, std::to_string(pc), std::to_string(other_pc), std::to_string(what.first)})
      report += field + "\t";
    report += what.second + "\n";
  }
}

}  // namespace
}  // namespace ptx

extern "C" {

using namespace ptx;

void ptx_set_random_winner(int random) { random_winner = random; }

// The number of an instruction; -1 if it is not known.
int ptx_operation(const char* name) {
  const auto found = table.find(name);
  if (found == table.end()) return -1;
  functions.push_back(found->second);
  return int(functions.size()) - 1;
}

// rows: as machine.py writes them, `columns` numbers each. constants: offset, number, width, value.
void* ptx_load(const i64* rows, int count, int columns, const i64* constants, int num_constants, i64 register_bytes,
               i64 num_registers, int shared_unit) {
  Program* p = new Program{{}, register_bytes, num_registers, {constants, constants + 4 * num_constants}, shared_unit};
  for (int k = 0; k < count; ++k) {
    const i64* r = rows + i64(k) * columns;
    Instruction i{};
    i.execute = functions[r[0]];
    int* const fields[] = {&i.kind, &i.num_results, &i.num_sources, &i.size, &i.vector, &i.space, &i.negated, &i.flag};
    for (int f = 0; f < 8; ++f) *fields[f] = int(r[1 + f]);
    i.guard_offset = r[9];
    i.guard_id = r[10];
    i.immediate = r[11];
    i.target = u32(r[12]);
    i.pc = u32(k);
    for (int j = 0; j < 8; ++j) i.d[j] = {u32(r[13 + 3 * j]), u32(r[14 + 3 * j]), u32(r[15 + 3 * j])};
    for (int j = 0; j < 16; ++j) i.s[j] = {u32(r[37 + 3 * j]), u32(r[38 + 3 * j]), u32(r[39 + 3 * j])};
    p->code.push_back(i);
  }
  return p;
}

// Runs a launch; returns what was found, a line each. tensors: as Memory has them. counts: five rows, a number for each
// instruction: warps, lanes, sectors, wavefronts, and those without conflicts. sectors: different ones read and
// written. cluster: blocks that run side by side; 0: none do.
const char* ptx_launch(void* program, const u32* grid, const u32* block, int cluster, i64 shared_bytes, const u8* parameters,
                       const i64* tensors, int num_tensors, u64 seed, int perturbed, int check, i64* counts,
                       i64* sectors) {
  Program& p = *static_cast<Program*>(program);
  Machine m{};
  m.program = &p;
  m.parameters = parameters;
  m.check = check;
  m.random.seed(seed);
  perturbation = perturbed;
  if (last_clock > 0xc0000000u) last_clock = 1;
  m.clock = last_clock + 1;
  m.launch_start = m.clock;
  std::vector<i64>* const rows[] = {&m.count, &m.lanes, &m.sectors, &m.wavefronts, &m.least_wavefronts};
  for (auto* row : rows) row->resize(p.code.size());
  std::copy_n(grid, 3, m.grid);
  std::copy_n(block, 3, m.block);
  Cluster some{};
  if (cluster) {
    m.cluster = &some;  // until the first one runs
  } else {
    m.shared.resize(shared_bytes);
    m.shared_shadow.resize(shared_bytes / p.shared_unit + 1);
  }
  const Memory memory(m, tensors, num_tensors);
  run_blocks(m, cluster ? u32(cluster) : 1, shared_bytes);
  last_clock = m.clock + 1;
  for (auto* row : rows) counts = std::copy(row->begin(), row->end(), counts);
  sectors[0] = memory.sectors(0);
  sectors[1] = memory.sectors(1);
  write_report(m);
  return report.c_str();
}
}
