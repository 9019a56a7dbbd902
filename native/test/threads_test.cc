// The threads and the queue of the CPU device, under ThreadSanitizer (CMake option LACUNA_TSAN, run by ctest). Exits with
// the number of checks that failed; a data race makes the sanitizer exit with its own code.
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "../cpu/device.h"
#include "../cpu/threads.h"

using lacuna::cpu::Threads;

namespace {

std::atomic<int> failures{0};
void check(bool holds, const char* what) {
  if (holds) return;
  failures++;
  std::printf("FAILED: %s\n", what);
}

/** Every index exactly once, in ranges that begin at multiples of the grain, for many short calls. */
void every_index_once() {
  Threads threads(4);
  struct Count {
    std::vector<int> times;
    size_t grain;
    bool aligned = true;
  };
  for (size_t call = 0; call < 3000; call++) {
    Count count{std::vector<int>(1 + call % 97), 1 + call % 5};
    threads.split(
        count.times.size(), count.grain,
        [](void* context, size_t begin, size_t end) {
          auto& count = *static_cast<Count*>(context);
          if (begin % count.grain != 0) count.aligned = false;
          for (size_t i = begin; i < end; i++) count.times[i]++;
        },
        &count);
    bool once = count.aligned;
    for (const int times : count.times) once = once && times == 1;
    check(once, "split visits every index once");
  }
}

/** A range that splits runs the pieces itself; workers that slept in between are woken. */
void nested_and_after_a_pause() {
  Threads threads(3);
  Threads::current() = &threads;
  std::vector<int> sums(8);
  for (int round = 0; round < 3; round++) {
    threads.split(
        sums.size(), 1,
        [](void* context, size_t begin, size_t) {
          Threads::current()->split(
              10, 3,
              [](void* sum, size_t first, size_t last) {
                void* scratch = lacuna::cpu::acquire_scratch(100);
                std::memset(scratch, 1, 100);
                lacuna::cpu::release_scratch(scratch);
                *static_cast<int*>(sum) += static_cast<int>(last - first);
              },
              static_cast<int*>(context) + begin);
        },
        sums.data());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  for (const int sum : sums) check(sum == 30, "nested splits run in order on one thread");
}

void memory_runs_out_in_a_range() {
  Threads threads(3);
  bool thrown = false;
  try {
    threads.split(100, 1, [](void*, size_t begin, size_t) { if (begin == 50) throw std::bad_alloc(); }, nullptr);
  } catch (const std::bad_alloc&) {
    thrown = true;
  }
  check(thrown, "what a range throws reaches the caller");
}

/** One device: fills and copies far ahead of the reads, with memory that is freed and handed out again in between. */
void device(float value) {
  lacuna::cpu::Options options;
  options.threads = 3;
  options.guard = true;
  const auto device = lacuna::cpu::open(options);
  const int fill = device->kernel("fill.constant");
  constexpr size_t COUNT = 300000, BYTES = COUNT * 4;
  for (int round = 0; round < 10; round++) {
    const uint64_t a = device->alloc(BYTES, lacuna::Type::f32), b = device->alloc(BYTES, lacuna::Type::f32);
    struct {
      uint32_t count;
      float value;
    } params{COUNT, value + static_cast<float>(round)};
    const lacuna::View view_a{a, 0, BYTES}, view_b{b, 0, BYTES};
    device->run(fill, &view_a, 1, &params, sizeof(params));
    device->copy(view_a, view_b);
    device->free(a);
    const uint64_t c = device->alloc(BYTES, lacuna::Type::f32);
    device->write({c, 0, sizeof(params)}, &params);
    std::vector<float> data(COUNT);
    std::unique_ptr<lacuna::Device::Pending> pending(device->read(view_b, data.data()));
    std::thread waiting([&] { pending->wait(); });
    device->free(c);
    device->free(b);
    waiting.join();
    bool right = true;
    for (const float v : data) right = right && v == params.value;
    check(right, "what was read is what was computed before it");
  }
  std::unique_ptr<lacuna::Device::Pending>(device->sync())->wait();
  check(device->stats().live == 0, "nothing stays alive");
}

}  // namespace

int main() {
  every_index_once();
  nested_and_after_a_pause();
  memory_runs_out_in_a_range();
  std::thread first(device, 1.0f), second(device, 1000.0f);
  first.join();
  second.join();
  std::printf(failures == 0 ? "threads: all checks passed\n" : "threads: %d checks failed\n", failures.load());
  return failures.load();
}
