#include "hopper_twin.h"

#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "executor.h"

namespace lacuna::host {
namespace {

constexpr unsigned ROW = 128;              // bytes that the swizzle works on: eight chunks of 16
constexpr unsigned SPAN = 8 * ROW;         // after which its pattern repeats
constexpr unsigned MOST_ARRIVALS = 0x7FFE;  // fewer than the hardware's; memory that nobody wrote is all ones
constexpr int MOST_BYTES = (1 << 20) - 1;  // that a barrier can count

/** Where a byte of shared memory lies under the swizzle: its chunk's number is mixed with its row's. */
size_t swizzled(size_t offset) { return offset ^ (offset >> 3 & 0x70); }

unsigned char* memory() { return static_cast<unsigned char*>(shared_memory(0)); }
size_t offset_of(const void* at, const char* what) {
  const ptrdiff_t offset = static_cast<const unsigned char*>(at) - memory();
  if (offset < 0 || static_cast<size_t>(offset) >= MOST_SHARED) fail(std::string(what) + " outside shared memory");
  return static_cast<size_t>(offset);
}

struct Counters {
  uint32_t initialised : 1, phase : 1, count : 15, pending : 15;
  int32_t bytes;  // announced and not arrived
};
static_assert(sizeof(Counters) == sizeof(uint64_t));
Counters read(const uint64_t* barrier) {
  Counters c;
  std::memcpy(&c, barrier, sizeof(c));
  return c;
}
/** Writes it back; a phase in which nothing is missing any more is over. */
void write(uint64_t* barrier, Counters c) {
  if (c.pending == 0 && c.bytes == 0) {
    c.phase ^= 1;
    c.pending = c.count;
  }
  std::memcpy(barrier, &c, sizeof(c));
}
Counters checked(const uint64_t* barrier) {
  if (offset_of(barrier, "a barrier") % 8 != 0) fail("a barrier that is not aligned");
  const Counters c = read(barrier);
  if (c.initialised != 1 || c.count == 0 || c.count > MOST_ARRIVALS || c.pending > c.count) fail("a barrier without init");
  return c;
}

struct Product {
  float* d;
  unsigned n;
  uint64_t a, b;
  bool a_across, b_across;
};
struct State {
  std::vector<std::shared_ptr<unsigned>> copies;  // groups; how many copies of each have not read yet
  std::shared_ptr<unsigned> open = std::make_shared<unsigned>(0);
  bool async_fenced = false;
  std::deque<std::vector<Product>> groups;
  std::vector<Product> products;  // of the open group
  bool fenced = false;
};
State& state() {
  auto& kept_ = kept();
  if (!kept_) kept_ = std::make_shared<State>();
  return *static_cast<State*>(kept_.get());
}

/** Calls f(offset in shared memory, place in the tensor or null, bytes) for all parts of the box: of 16 bytes, or of 2. */
template <class F>
void each_part(const TensorMap& map, size_t offset, const int* at, F f) {
  unsigned counts[MOST_RANK] = {1, 1, 1, 1, 1}, i[MOST_RANK] = {};
  for (unsigned k = 0; k < map.rank; k++) counts[k] = k == 0 ? map.box[0] : (map.box[k] + map.steps[k] - 1) / map.steps[k];
  const bool whole = at[0] % 8 == 0 && map.sizes[0] % 8 == 0;
  const unsigned part = whole ? 8 : 1;
  for (i[4] = 0; i[4] < counts[4]; i[4]++) {
    for (i[3] = 0; i[3] < counts[3]; i[3]++) {
      for (i[2] = 0; i[2] < counts[2]; i[2]++) {
        for (i[1] = 0; i[1] < counts[1]; i[1]++) {
          unsigned char* row = map.base;
          bool inside = true;
          for (unsigned k = 1; k < map.rank; k++) {
            const int64_t place = int64_t{at[k]} + int64_t{i[k]} * map.steps[k];
            inside &= place >= 0 && static_cast<uint64_t>(place) < map.sizes[k];
            row += place * static_cast<int64_t>(map.strides[k]);
          }
          for (i[0] = 0; i[0] < counts[0]; i[0] += part, offset += part * 2) {
            const int64_t place = int64_t{at[0]} + i[0];
            const bool here = inside && place >= 0 && static_cast<uint64_t>(place) < map.sizes[0];
            f(swizzled(offset), here ? row + place * 2 : nullptr, part * 2);
          }
        }
      }
    }
  }
}
size_t box_bytes(const TensorMap& map) {
  size_t bytes = 2;
  for (unsigned k = 0; k < map.rank; k++) bytes *= k == 0 ? map.box[0] : (map.box[k] + map.steps[k] - 1) / map.steps[k];
  return bytes;
}
void check_copy(const TensorMap& map, const void* shared, unsigned rank) {
  if (reinterpret_cast<uintptr_t>(&map) % 64 != 0) fail("a tensor map that is not aligned");
  if (map.rank != rank) fail("a tensor map of another rank");
  if (offset_of(shared, "a copy") % SPAN != 0) fail("a swizzled copy that is not aligned to 1,024 bytes");
  if (offset_of(shared, "a copy") + box_bytes(map) > MOST_SHARED) fail("a copy beyond shared memory");
}

/** The 14 bits of a descriptor's field, in bytes. */
size_t field(uint64_t matrix, unsigned bit) { return (matrix >> bit & 0x3FFF) << 4; }

void check_matrix(uint64_t matrix, unsigned rows, bool across) {
  constexpr uint64_t FIELDS = 0x3FFF | uint64_t{0x3FFF} << 16 | uint64_t{0x3FFF} << 32 | uint64_t{7} << 49 | uint64_t{3} << 62;
  if (matrix & ~FIELDS) fail("reserved bits of a matrix descriptor");
  if (matrix >> 62 != 1) fail("a matrix without the swizzle of 128 bytes");
  if ((matrix >> 49 & 7) != 0) fail("a base offset, which no matrix here has");
  if (field(matrix, 32) % SPAN != 0) fail("groups of eight rows that are not aligned to 1,024 bytes");
  if (across) {
    if (field(matrix, 0) % SPAN != 0) fail("a matrix that does not begin where the swizzle does");
    if (rows > 64 && (field(matrix, 16) % SPAN != 0 || field(matrix, 16) == 0)) fail("blocks of 64 rows that are not aligned");
  } else if (field(matrix, 0) % SPAN > ROW - 32) {
    fail("sixteen terms that are not within 128 bytes");
  }
}
float element(const unsigned char* at) {
  uint16_t half;
  std::memcpy(&half, at, sizeof(half));
  const uint32_t bits = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}
/** A descriptor, decoded. */
struct Matrix {
  size_t start, leading, stride;
  bool across;
  Matrix(uint64_t matrix, bool across)
      : start(field(matrix, 0)), leading(field(matrix, 16)), stride(field(matrix, 32)), across(across) {}
  const unsigned char* at(const unsigned char* shared, unsigned row, unsigned term) const {
    const size_t place = across ? start + row / 64 * leading + term / 8 * stride + term % 8 * ROW + row % 64 * 2
                                : start + row / 8 * stride + row % 8 * ROW + term * 2;
    return shared + swizzled(place);
  }
};
void carry_out(const Product& p) {
  const Thread& thread = self();
  const unsigned char* shared = memory();
  const unsigned row = thread.warp % 4 * 16 + thread.lane / 4, column = thread.lane % 4 * 2;
  const Matrix a(p.a, p.a_across), b(p.b, p.b_across);
  float rows[16][2];
  for (unsigned k = 0; k < 16; k++) {
    for (unsigned half = 0; half < 2; half++) rows[k][half] = element(a.at(shared, row + half * 8, k));
  }
  for (unsigned j = 0; j < p.n / 8; j++) {
    float* d = p.d + j * 4;
    float sums[4] = {d[0], d[1], d[2], d[3]};
    for (unsigned k = 0; k < 16; k++) {
      const unsigned char* at = b.at(shared, j * 8 + column, k);
      const float columns[2] = {element(at), element(b.across ? at + 2 : b.at(shared, j * 8 + column + 1, k))};
      for (unsigned i = 0; i < 4; i++) sums[i] += rows[k][i / 2] * columns[i % 2];
    }
    for (unsigned i = 0; i < 4; i++) d[i] = sums[i];
  }
}

}  // namespace

bool encode_map(TensorMap& map, void* base, unsigned rank, const uint64_t* sizes, const uint64_t* strides,
                const uint32_t* box, const uint32_t* steps) {
  if (rank < 1 || rank > MOST_RANK || reinterpret_cast<uintptr_t>(base) % 16 != 0) return false;
  map = {};
  map.base = static_cast<unsigned char*>(base);
  map.rank = rank;
  for (unsigned k = 0; k < rank; k++) {
    map.sizes[k] = sizes[k];
    map.strides[k] = k == 0 ? 2 : strides[k - 1];
    map.box[k] = box[k];
    map.steps[k] = steps[k];
    if (sizes[k] == 0 || sizes[k] > uint64_t{1} << 32 || box[k] == 0 || box[k] > 256) return false;
    if (k > 0 && (map.strides[k] % 16 != 0 || map.strides[k] >= uint64_t{1} << 40)) return false;
    if (k > 0 && (steps[k] == 0 || steps[k] > 8)) return false;
  }
  // Narrower boxes are allowed, but nobody here knows how their rows lie.
  return box[0] * 2 == ROW;
}

void barrier_init(uint64_t* barrier, unsigned count) {
  if (offset_of(barrier, "a barrier") % 8 != 0) fail("a barrier that is not aligned");
  if (count == 0 || count > MOST_ARRIVALS) fail("a barrier for " + std::to_string(count) + " arrivals");
  const Counters c{1, 0, count & 0x7FFF, count & 0x7FFF, 0};
  std::memcpy(barrier, &c, sizeof(c));
}
void barrier_arrive(uint64_t* barrier, unsigned bytes) {
  Counters c = checked(barrier);
  if (c.pending == 0) fail("more arrivals than the barrier's phase takes");
  if (bytes > MOST_BYTES || c.bytes + static_cast<int>(bytes) > MOST_BYTES) fail("more bytes than a barrier counts");
  c.bytes += static_cast<int>(bytes);
  c.pending--;
  write(barrier, c);
}
void barrier_wait(uint64_t* barrier, unsigned parity) {
  if (parity > 1) fail("a parity of " + std::to_string(parity));
  checked(barrier);
  wait_until([=] { return read(barrier).phase != parity; }, "a barrier in shared memory");
}

void copy_in(void* to, const TensorMap& map, uint64_t* barrier, unsigned rank, const int* at) {
  check_copy(map, to, rank);
  checked(barrier);
  const size_t offset = offset_of(to, "a copy");
  unsigned char* shared = memory();
  struct Corner {
    int at[MOST_RANK];
  } corner = {};
  std::memcpy(corner.at, at, rank * sizeof(int));
  later([=] {
    each_part(map, offset, corner.at, [&](size_t place, const unsigned char* from, size_t bytes) {
      if (from) {
        std::memcpy(shared + place, from, bytes);
      } else {
        std::memset(shared + place, 0, bytes);
      }
    });
    Counters c = read(barrier);
    c.bytes -= static_cast<int>(box_bytes(map));
    write(barrier, c);
  });
}
void copy_out(const TensorMap& map, const void* from, unsigned rank, const int* at) {
  check_copy(map, from, rank);
  State& mine = state();
  if (!mine.async_fenced) fail("a copy from shared memory without the fence that makes writes visible to it");
  const size_t offset = offset_of(from, "a copy");
  const unsigned char* shared = memory();
  struct Corner {
    int at[MOST_RANK];
  } corner = {};
  std::memcpy(corner.at, at, rank * sizeof(int));
  ++*mine.open;
  later([=, group = mine.open] {
    each_part(map, offset, corner.at, [&](size_t place, unsigned char* to, size_t bytes) {
      if (to) std::memcpy(to, shared + place, bytes);
    });
    --*group;
  });
}
void copies_commit() {
  State& mine = state();
  mine.copies.push_back(std::move(mine.open));
  mine.open = std::make_shared<unsigned>(0);
  mine.async_fenced = false;
}
void copies_wait(unsigned left) {
  auto& groups = state().copies;
  while (groups.size() > left) {
    const std::shared_ptr<unsigned> first = groups.front();
    wait_until([&] { return *first == 0; }, "copies from shared memory");
    groups.erase(groups.begin());
  }
}
void fence_async() { state().async_fenced = true; }

uint64_t matrix(const void* start, unsigned leading_bytes, unsigned stride_bytes) {
  const size_t offset = offset_of(start, "a matrix");
  if (offset % 16 != 0 || leading_bytes % 16 != 0 || stride_bytes % 16 != 0) fail("a matrix that is not aligned");
  return offset >> 4 | uint64_t{leading_bytes >> 4} << 16 | uint64_t{stride_bytes >> 4} << 32 | uint64_t{1} << 62;
}
void products_fence() {
  together(WARP, nullptr, 0, "wgmma.fence");
  state().fenced = true;
}
void product(float* d, unsigned n, uint64_t a, uint64_t b, bool a_across, bool b_across) {
  struct Mine {
    uint64_t a, b;
  } mine{a, b};
  const auto* all = static_cast<const unsigned char*>(together(128, &mine, sizeof(mine), "wgmma.mma_async"));
  for (unsigned i = 0; i < 128; i++) {
    if (std::memcmp(all + i * sizeof(mine), &mine, sizeof(mine)) != 0) fail("threads of one product see other matrices");
  }
  if (!state().fenced) fail("a product without a fence before its group");
  check_matrix(a, 64, a_across);
  check_matrix(b, n, b_across);
  state().products.push_back({d, n, a, b, a_across, b_across});
}
void products_commit() {
  together(WARP, nullptr, 0, "wgmma.commit_group");
  State& mine = state();
  mine.groups.push_back(std::move(mine.products));
  mine.products.clear();
  mine.fenced = false;
}
void products_wait(unsigned left) {
  together(WARP, nullptr, 0, "wgmma.wait_group");
  auto& groups = state().groups;
  while (groups.size() > left) {
    for (const Product& p : groups.front()) carry_out(p);
    groups.pop_front();
  }
  together(WARP, nullptr, 0, "wgmma.wait_group, done");
}

}  // namespace lacuna::host
