// What native devices share of their memory: a pool that cuts segments into blocks, and handles that name the blocks.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>

#include "device.h"

namespace lacuna {

/** How a pool gets and returns its segments. */
struct Segments {
  size_t alignment;                     // of every block
  size_t largest;                       // bytes that it asks for at once, unless more is needed
  std::function<void*(size_t)> obtain;  // null where there is no more
  /** Nothing uses the segment any more but commands that were given before; where `idle`, not even those. */
  std::function<void(void*, bool idle)> release;
  bool kept = false;  // until the pool goes: a graph that is replayed uses them again when every block is free
};

/**
 * Memory in segments from the system, cut to what is asked for: the smallest free block that is large enough is split,
 * and a block that is given back joins its free neighbours. So the blocks of a step fit those of the step before it,
 * whatever their sizes, and steps after the first ask the system for nothing. Handing a block on at once is safe, as
 * commands run in order.
 */
class Pool {
 public:
  explicit Pool(Segments source) : source_(std::move(source)) {}
  ~Pool() {
    for (const auto& [memory, size] : segments_) source_.release(memory, true);
  }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  /** Null where the system has no more. */
  void* take(size_t bytes) {
    const size_t size = rounded(bytes == 0 ? 1 : bytes);
    auto found = free_.lower_bound({size, nullptr});
    if (found == free_.end()) {
      if (!grow(size)) return nullptr;
      found = free_.lower_bound({size, nullptr});
    }
    const auto [block_size, block] = *found;
    free_.erase(found);
    blocks_[block] = {size, false};
    if (block_size > size) add_free(block + size, block_size - size);
    used_ += size;
    if (used_ > most_used_) most_used_ = used_;
    return block;
  }

  void give(void* memory) {
    auto at = blocks_.find(static_cast<unsigned char*>(memory));
    unsigned char* block = at->first;
    size_t size = at->second.size;
    used_ -= size;
    const auto next = std::next(at);
    if (next != blocks_.end() && next->second.free && !segments_.count(next->first)) {
      size += next->second.size;
      free_.erase({next->second.size, next->first});
      blocks_.erase(next);
    }
    if (at != blocks_.begin() && !segments_.count(block)) {
      const auto before = std::prev(at);
      if (before->second.free) {
        free_.erase({before->second.size, before->first});
        size += before->second.size;
        block = before->first;
        blocks_.erase(at);
      }
    }
    add_free(block, size);
    // At the end of a step all is idle, and more of it than was ever used: blocks do not fill their segments. Without the
    // quarter a segment would go back each time, and its pages be touched anew in the next step.
    const auto segment = segments_.find(block);
    const bool whole = segment != segments_.end() && segment->second == size;
    if (whole && !source_.kept && reserved_ - used_ > most_used_ + most_used_ / 4) drop(segment);
  }

  /** Gives every segment without a block in use back to the system. */
  void trim() {
    for (auto segment = segments_.begin(); segment != segments_.end();) {
      const auto next = std::next(segment);
      const Block& block = blocks_.at(segment->first);
      if (block.free && block.size == segment->second) drop(segment);
      segment = next;
    }
  }
  size_t reserved() const { return reserved_; }

 private:
  struct Block {
    size_t size;
    bool free;
  };
  using Places = std::map<unsigned char*, size_t>;

  size_t rounded(size_t bytes) const {
    return (bytes + source_.alignment - 1) / source_.alignment * source_.alignment;
  }
  void add_free(unsigned char* block, size_t size) {
    blocks_[block] = {size, true};
    free_.insert({size, block});
  }
  /** A new segment: an eighth of what is in use, or what is asked for; its pages cost nothing before they are touched. */
  bool grow(size_t size) {
    constexpr size_t LEAST = size_t{1} << 20;
    const size_t most = source_.largest;
    size_t wanted = used_ / 8 < LEAST ? LEAST : used_ / 8 > most ? most : rounded(used_ / 8);
    if (wanted < size) wanted = size;
    void* memory = source_.obtain(wanted);
    if (!memory && wanted > size) memory = source_.obtain(wanted = size);
    if (!memory) return false;
    auto* segment = static_cast<unsigned char*>(memory);
    segments_[segment] = wanted;
    reserved_ += wanted;
    add_free(segment, wanted);
    return true;
  }
  void drop(Places::iterator segment) {
    free_.erase({segment->second, segment->first});
    blocks_.erase(segment->first);
    reserved_ -= segment->second;
    source_.release(segment->first, false);
    segments_.erase(segment);
  }

  const Segments source_;
  Places segments_;                              // where each begins, and its size
  std::map<unsigned char*, Block> blocks_;         // all of them, by address: neighbours of one segment follow each other
  std::set<std::pair<size_t, unsigned char*>> free_;
  size_t used_ = 0, most_used_ = 0, reserved_ = 0;
};

/** Bytes before and after every allocation where zones are checked, what they hold, and what fresh memory holds: a NaN. */
constexpr size_t ZONE = 256;
constexpr unsigned char CANARY = 0xA5, POISON = 0xFF;

struct Allocation {
  unsigned char* block;  // what the pool gave, with the zones where there are any
  size_t block_size;
  unsigned char* data;
  size_t size;
  Type type;
  std::shared_ptr<Pool> pool;

  /** Did anything write into the zones, which `block` (or a copy of it) holds? */
  bool damaged(const unsigned char* copy) const {
    const auto wrong = [](const unsigned char* from, const unsigned char* to) {
      for (; from < to; from++) {
        if (*from != CANARY) return true;
      }
      return false;
    };
    const size_t before = static_cast<size_t>(data - block);
    return wrong(copy, copy + before) || wrong(copy + before + size, copy + block_size);
  }
};

/** The live allocations of a device, and what `stats` counts of them. */
class Handles {
 public:
  Handles() : next_(first()) {}

  /** A block for `bytes` bytes, between zones where `guard` is set; block null where the pool has no more. */
  static Allocation take(const std::shared_ptr<Pool>& pool, size_t bytes, Type type, bool guard) {
    constexpr size_t MOST = SIZE_MAX / 4;  // what else would overflow
    if (bytes > MOST) return {nullptr, 0, nullptr, bytes, type, pool};
    const size_t size = (bytes + 63) / 64 * 64 + (guard ? 2 * ZONE : 0);
    auto* block = static_cast<unsigned char*>(pool->take(size));
    return {block, size, block ? block + (guard ? ZONE : 0) : nullptr, bytes, type, pool};
  }
  uint64_t add(Allocation allocation) {
    live_++;
    bytes_ += allocation.size;
    if (bytes_ > peak_bytes_) peak_bytes_ = bytes_;
    allocations_.emplace(next_, std::move(allocation));
    return next_++;
  }
  Allocation remove(uint64_t handle) {
    const auto found = allocations_.find(handle);
    if (found == allocations_.end()) throw DeviceException("handle", no_such(handle));
    Allocation freed = std::move(found->second);
    allocations_.erase(found);
    live_--;
    bytes_ -= freed.size;
    return freed;
  }
  const Allocation& at(const View& view) const {
    const auto found = allocations_.find(view.handle);
    if (found == allocations_.end()) throw DeviceException("handle", no_such(view.handle));
    const Allocation& allocation = found->second;
    if (view.offset > allocation.size || view.size > allocation.size - view.offset) {
      throw DeviceException("range", "bytes " + std::to_string(view.offset) + " to " +
                                         std::to_string(view.offset + view.size) + " are not inside an allocation of " +
                                         std::to_string(allocation.size));
    }
    return allocation;
  }
  unsigned char* resolve(const View& view) const { return at(view).data + view.offset; }

  const std::unordered_map<uint64_t, Allocation>& all() const { return allocations_; }
  void count(Stats& stats) const {
    stats.live = live_;
    stats.bytes = bytes_;
    stats.peak_bytes = peak_bytes_;
  }
  DeviceException no_memory(size_t bytes, const std::string& more = "") const {
    return {"memory", "no memory for " + std::to_string(bytes) + " bytes beside the " + std::to_string(bytes_) +
                          " in use by " + std::to_string(live_) + " tensors" + more};
  }

 private:
  /** Handles of different devices never agree: the upper 21 bits of 53 number the device. */
  static uint64_t first() {
    static std::mutex mutex;
    static uint64_t devices = 0;
    std::lock_guard lock(mutex);
    devices = devices % ((1u << 20) - 1) + 1;
    return devices << 32;
  }
  static std::string no_such(uint64_t handle) {
    return "there is no memory " + std::to_string(handle) + " on this device: freed, or of another device";
  }

  std::unordered_map<uint64_t, Allocation> allocations_;
  uint64_t next_;
  size_t live_ = 0, bytes_ = 0, peak_bytes_ = 0;
};

}  // namespace lacuna
