// The whole N-API surface, the same for every native device and every op: open, alloc, free, write, copy, read, run,
// capture, replay, sync, stats, dispose. JavaScript (src/backends/native/) knows shapes and types; here arguments and handles are checked,
// so that no call, however wrong, reaches memory that is not the device's.
#include <napi.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "device.h"
#if defined(LACUNA_CPU)
#include "cpu/device.h"
#endif
#if defined(LACUNA_CUDA)
#include "cuda/device.h"
#endif

namespace lacuna {
namespace {

Napi::Error error_of(Napi::Env env, const char* code, const std::string& what) {
  Napi::Error error = Napi::Error::New(env, what);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

/** A whole number from 0 to 2^53 - 1. */
uint64_t whole(const Napi::CallbackInfo& info, size_t i, const char* name) {
  if (i < info.Length() && info[i].IsNumber()) {
    const double value = info[i].As<Napi::Number>().DoubleValue();
    if (value >= 0 && value <= 9007199254740991.0 && value == std::floor(value)) return static_cast<uint64_t>(value);
  }
  throw error_of(info.Env(), "argument", std::string(name) + " must be a whole number");
}

struct Bytes {
  unsigned char* data;
  size_t size;
};
/** The memory under a typed array, as long as the call lasts. A detached one has no bytes. */
Bytes bytes_of(const Napi::CallbackInfo& info, size_t i, const char* name) {
  if (i < info.Length() && info[i].IsTypedArray()) {
    auto array = info[i].As<Napi::TypedArray>();
    auto buffer = array.ArrayBuffer();
    auto* data = static_cast<unsigned char*>(buffer.Data());
    const size_t offset = array.ByteOffset(), size = array.ByteLength();
    if (data && offset + size <= buffer.ByteLength()) return {data + offset, size};
    if (size == 0) return {nullptr, 0};
  }
  throw error_of(info.Env(), "argument", std::string(name) + " must be a typed array whose buffer is attached");
}

/** Waits on a thread of libuv's for a place in the device's order, then settles a promise. */
class Wait final : public Napi::AsyncWorker {
 public:
  Wait(Napi::Env env, std::shared_ptr<Device> device, std::shared_ptr<unsigned char[]> data, size_t size)
      : Napi::AsyncWorker(env), deferred_(Napi::Promise::Deferred::New(env)), device_(std::move(device)),
        data_(std::move(data)), size_(size) {}
  /** From here on the worker owns itself. */
  static Napi::Value start(std::unique_ptr<Wait> wait, Device::Pending* pending) {
    wait->pending_.reset(pending);
    const Napi::Promise promise = wait->deferred_.Promise();
    wait->Queue();
    wait.release();
    return promise;
  }

  void Execute() override {
    try {
      pending_->wait();
    } catch (const DeviceException& failure) {
      code_ = failure.code;
      SetError(failure.what());
    }
  }
  void OnOK() override {
    if (!data_) return deferred_.Resolve(Env().Undefined());
    auto buffer = Napi::ArrayBuffer::New(Env(), size_);
    if (size_ > 0) std::memcpy(buffer.Data(), data_.get(), size_);
    deferred_.Resolve(buffer);
  }
  void OnError(const Napi::Error& error) override {
    error.Set("code", Napi::String::New(Env(), code_));
    deferred_.Reject(error.Value());
  }

 private:
  Napi::Promise::Deferred deferred_;
  std::shared_ptr<Device> device_;  // may outlive its handle in JavaScript
  std::shared_ptr<unsigned char[]> data_;
  size_t size_;
  std::unique_ptr<Device::Pending> pending_;
  const char* code_ = "failed";
};

class DeviceObject final : public Napi::ObjectWrap<DeviceObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "NativeDevice",
                       {
                           InstanceMethod<&DeviceObject::description>("description"),
                           InstanceMethod<&DeviceObject::alloc>("alloc"),
                           InstanceMethod<&DeviceObject::free>("free"),
                           InstanceMethod<&DeviceObject::write>("write"),
                           InstanceMethod<&DeviceObject::copy>("copy"),
                           InstanceMethod<&DeviceObject::read>("read"),
                           InstanceMethod<&DeviceObject::kernel>("kernel"),
                           InstanceMethod<&DeviceObject::kernels>("kernels"),
                           InstanceMethod<&DeviceObject::run>("run"),
                           InstanceMethod<&DeviceObject::allow_tf32>("allowTf32"),
                           InstanceMethod<&DeviceObject::begin_capture>("beginCapture"),
                           InstanceMethod<&DeviceObject::end_capture>("endCapture"),
                           InstanceMethod<&DeviceObject::replay>("replay"),
                           InstanceMethod<&DeviceObject::free_graph>("freeGraph"),
                           InstanceMethod<&DeviceObject::sync>("sync"),
                           InstanceMethod<&DeviceObject::stats>("stats"),
                           InstanceMethod<&DeviceObject::dispose>("dispose"),
                       });
  }

  /** new NativeDevice("cpu" or "cuda", { threads?, guard?, isa?, reverse?, memory?, capability? }) */
  explicit DeviceObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DeviceObject>(info) {
    const Napi::Env env = info.Env();
    if (info.Length() < 1 || !info[0].IsString()) throw error_of(env, "argument", "a device's name is a string");
    const std::string name = info[0].As<Napi::String>();
    const auto given = info.Length() > 1 && info[1].IsObject() ? info[1].As<Napi::Object>() : Napi::Object::New(env);
    try {
      if (name == "cpu") {
#if defined(LACUNA_CPU)
        device_ = cpu::open({static_cast<unsigned>(number(given, "threads", 1, 1024, 0)), flag(given, "guard"),
                             given.Get("isa").IsString() ? std::string(given.Get("isa").As<Napi::String>()) : ""});
#else
        throw std::runtime_error("this addon has only the host device of the CUDA kernels, for tests");
#endif
      } else if (name == "cuda") {
#if defined(LACUNA_CUDA)
        device_ = cuda::open({flag(given, "guard"), flag(given, "reverse"),
                              static_cast<size_t>(number(given, "memory", 0, 9007199254740991.0, 0)),
                              static_cast<int>(number(given, "capability", 0, 999, 0))});
#else
        throw std::runtime_error("the native addon was built without CUDA: `LACUNA_CUDA=on npm run native` builds it, given nvcc");
#endif
      } else {
        throw std::runtime_error("there is no device \"" + name + "\"");
      }
    } catch (const Napi::Error&) {
      throw;
    } catch (const std::exception& failure) {
      throw error_of(env, "unavailable", failure.what());
    }
  }

 private:
  std::shared_ptr<Device> device_;

  Device& device(const Napi::CallbackInfo& info) const {
    if (!device_) throw error_of(info.Env(), "disposed", "the device was disposed");
    return *device_;
  }
  /** Runs `f`; what a device throws reaches JavaScript with its code. */
  template <class F>
  static auto guarded(const Napi::CallbackInfo& info, F&& f) {
    try {
      return f();
    } catch (const DeviceException& failure) {
      throw error_of(info.Env(), failure.code, failure.what());
    } catch (const std::bad_alloc&) {
      throw error_of(info.Env(), "memory", "no memory");
    }
  }
  static bool flag(const Napi::Object& given, const char* name) {
    const Napi::Value value = given.Get(name);
    return value.IsBoolean() && value.As<Napi::Boolean>();
  }
  static double number(const Napi::Object& given, const char* name, double least, double most, double otherwise) {
    const Napi::Value value = given.Get(name);
    if (!value.IsNumber()) return otherwise;
    const double count = value.As<Napi::Number>().DoubleValue();
    if (count >= least && count <= most) return count;
    throw error_of(given.Env(), "argument", std::string(name) + " is out of range");
  }
  static View view(const Napi::CallbackInfo& info, size_t first) {
    return {whole(info, first, "handle"), whole(info, first + 1, "offset"), whole(info, first + 2, "size")};
  }

  Napi::Value description(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), device(info).description());
  }
  /** (bytes, number of the type, f32 where absent) -> handle */
  Napi::Value alloc(const Napi::CallbackInfo& info) {
    const uint64_t bytes = whole(info, 0, "bytes"), type = info.Length() > 1 ? whole(info, 1, "type") : 0;
    if (type > static_cast<uint64_t>(Type::bf16)) throw error_of(info.Env(), "argument", "there is no such type");
    return guarded(info, [&] {
      return Napi::Number::New(info.Env(), static_cast<double>(device(info).alloc(bytes, static_cast<Type>(type))));
    });
  }
  void free(const Napi::CallbackInfo& info) {
    const uint64_t handle = whole(info, 0, "handle");
    guarded(info, [&] { device(info).free(handle); });
  }
  /** (handle, offset, typed array) */
  void write(const Napi::CallbackInfo& info) {
    const uint64_t handle = whole(info, 0, "handle"), offset = whole(info, 1, "offset");
    const Bytes data = bytes_of(info, 2, "data");
    guarded(info, [&] { device(info).write({handle, offset, data.size}, data.data); });
  }
  /** (handle, offset, handle, offset, bytes) */
  void copy(const Napi::CallbackInfo& info) {
    const uint64_t from = whole(info, 0, "source"), at = whole(info, 1, "offset");
    const uint64_t to = whole(info, 2, "target"), place = whole(info, 3, "offset"), size = whole(info, 4, "bytes");
    guarded(info, [&] { device(info).copy({from, at, size}, {to, place, size}); });
  }
  /** (handle, offset, bytes) -> promise of an ArrayBuffer */
  Napi::Value read(const Napi::CallbackInfo& info) {
    const View source = view(info, 0);
    return guarded(info, [&] {
      Device& from = device(info);
      // Checked before anything is allocated: the size may be a lie.
      from.check(source);
      std::shared_ptr<unsigned char[]> data(new unsigned char[source.size + 1]);
      auto wait = std::make_unique<Wait>(info.Env(), device_, data, source.size);
      return Wait::start(std::move(wait), from.read(source, data.get()));
    });
  }
  Napi::Value kernel(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsString()) throw error_of(info.Env(), "argument", "a kernel's name is a string");
    return Napi::Number::New(info.Env(), device(info).kernel(info[0].As<Napi::String>()));
  }
  Napi::Value kernels(const Napi::CallbackInfo& info) {
    auto all = Napi::Array::New(info.Env());
    for (const KernelInfo& kernel : device(info).kernels()) {
      auto object = Napi::Object::New(info.Env());
      object.Set("name", kernel.name);
      object.Set("inputs", static_cast<double>(kernel.inputs));
      object.Set("outputs", static_cast<double>(kernel.outputs));
      object.Set("paramsBytes", static_cast<double>(kernel.params_bytes));
      all[all.Length()] = object;
    }
    return all;
  }
  /** (kernel, Float64Array of handle, offset, bytes for each buffer, how many buffers, Uint8Array of parameters, their bytes) */
  void run(const Napi::CallbackInfo& info) {
    constexpr size_t MOST = MOST_BUFFERS;
    const uint64_t number = whole(info, 0, "kernel"), count = whole(info, 2, "buffers"), size = whole(info, 4, "bytes");
    if (info.Length() < 2 || !info[1].IsTypedArray() ||
        info[1].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
      throw error_of(info.Env(), "argument", "views must be a Float64Array");
    }
    const Bytes numbers = bytes_of(info, 1, "views");
    const Bytes params = bytes_of(info, 3, "parameters");
    if (count > MOST || numbers.size < count * 3 * sizeof(double) || params.size < size || number > INT32_MAX) {
      throw error_of(info.Env(), "argument", "fewer views or parameters than were announced");
    }
    View views[MOST];
    for (size_t i = 0; i < count; i++) {
      double parts[3];
      std::memcpy(parts, numbers.data + i * sizeof(parts), sizeof(parts));
      for (const double part : parts) {
        if (!(part >= 0 && part <= 9007199254740991.0 && part == std::floor(part))) {
          throw error_of(info.Env(), "argument", "views are whole numbers");
        }
      }
      views[i] = {static_cast<uint64_t>(parts[0]), static_cast<size_t>(parts[1]), static_cast<size_t>(parts[2])};
    }
    guarded(info, [&] { device(info).run(static_cast<int>(number), views, count, params.data, size); });
  }
  void allow_tf32(const Napi::CallbackInfo& info) {
    if (info.Length() < 1 || !info[0].IsBoolean()) throw error_of(info.Env(), "argument", "allowed or not is a boolean");
    guarded(info, [&] { device(info).allow_tf32(info[0].As<Napi::Boolean>()); });
  }
  void begin_capture(const Napi::CallbackInfo& info) {
    guarded(info, [&] { device(info).begin_capture(); });
  }
  /** (keep) -> graph */
  Napi::Value end_capture(const Napi::CallbackInfo& info) {
    const bool keep = info.Length() > 0 && info[0].IsBoolean() && info[0].As<Napi::Boolean>();
    return guarded(info, [&] {
      return Napi::Number::New(info.Env(), static_cast<double>(device(info).end_capture(keep)));
    });
  }
  /** (graph, Float64Array of number of the run and bytes of its parameters for each patch, Uint8Array of parameters) */
  void replay(const Napi::CallbackInfo& info) {
    const uint64_t graph = whole(info, 0, "graph");
    if (info.Length() < 2 || !info[1].IsTypedArray() ||
        info[1].As<Napi::TypedArray>().TypedArrayType() != napi_float64_array) {
      throw error_of(info.Env(), "argument", "patches must be a Float64Array");
    }
    const Bytes numbers = bytes_of(info, 1, "patches");
    const Bytes params = bytes_of(info, 2, "parameters");
    std::vector<Device::Patch> patches;
    size_t used = 0;
    for (size_t at = 0; at + 2 * sizeof(double) <= numbers.size; at += 2 * sizeof(double)) {
      double parts[2];
      std::memcpy(parts, numbers.data + at, sizeof(parts));
      if (!(parts[0] >= 0 && parts[0] < 4294967296.0 && parts[1] >= 0 && parts[1] <= static_cast<double>(params.size - used))) {
        throw error_of(info.Env(), "argument", "fewer parameters than were announced");
      }
      const auto size = static_cast<size_t>(parts[1]);
      patches.push_back({static_cast<size_t>(parts[0]), params.data + used, size});
      used += size;
    }
    guarded(info, [&] { device(info).replay(graph, patches.data(), patches.size()); });
  }
  void free_graph(const Napi::CallbackInfo& info) {
    const uint64_t graph = whole(info, 0, "graph");
    guarded(info, [&] { device(info).free_graph(graph); });
  }
  Napi::Value sync(const Napi::CallbackInfo& info) {
    return guarded(info, [&] {
      Device& all = device(info);
      auto wait = std::make_unique<Wait>(info.Env(), device_, nullptr, 0);
      return Wait::start(std::move(wait), all.sync());
    });
  }
  Napi::Value stats(const Napi::CallbackInfo& info) {
    const Stats now = device(info).stats();
    auto object = Napi::Object::New(info.Env());
    object.Set("live", static_cast<double>(now.live));
    object.Set("bytes", static_cast<double>(now.bytes));
    object.Set("peakBytes", static_cast<double>(now.peak_bytes));
    object.Set("reserved", static_cast<double>(now.reserved));
    object.Set("dispatches", static_cast<double>(now.dispatches));
    return object;
  }
  /** Handles die with it; what was promised is still kept. */
  void dispose(const Napi::CallbackInfo&) { device_.reset(); }
};

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("NativeDevice", DeviceObject::define(env));
  return exports;
}

}  // namespace
}  // namespace lacuna

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return lacuna::init(env, exports); }
NODE_API_MODULE(lacuna, Init)
