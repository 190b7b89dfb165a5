// What every op takes: where to run, on how many threads, and scratch memory.
#pragma once

#include <memory>

#include "runtime/device/device.h"
#include "runtime/device/stream.h"
#include "runtime/device/thread_pool.h"
#include "runtime/memory/memory_resource.h"
#include "runtime/memory/workspace.h"

namespace stemfabric {

class ExecutionContext {
 public:
  struct Options {
    Device device;
    int threads = 0;                     // CPU threads; 0 = all this process may use
    bool deterministic = true;           // only matters on GPUs: CPU ops always are
    bool tf32 = false;                   // GPU products may round their inputs to TF32
    MemoryResource* resource = nullptr;  // default: the device's own
    // Host memory that is copied to and from the device. Default: pinned for a GPU.
    MemoryResource* staging = nullptr;
  };
  ExecutionContext();  // the CPU with all its threads
  explicit ExecutionContext(const Options& options);
  // On a stream of the caller's, whose device is used. Options::resource must be given; staging is
  // ordinary memory unless given.
  ExecutionContext(std::unique_ptr<Stream> stream, const Options& options);

  Device device() const { return stream_->device(); }
  bool is_cpu() const { return device().kind == DeviceKind::kCpu; }
  bool deterministic() const { return deterministic_; }
  bool tf32() const { return tf32_; }
  Stream& stream() const { return *stream_; }
  ThreadPool& threads() const { return *threads_; }
  MemoryResource& resource() const { return *resource_; }
  MemoryResource& staging() const { return *staging_; }
  // Scratch of one op call; see workspace.h.
  Workspace& workspace() const { return *workspace_; }

 private:
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<ThreadPool> threads_;
  MemoryResource* resource_;
  MemoryResource* staging_;
  std::unique_ptr<Workspace> workspace_;
  bool deterministic_;
  bool tf32_;
};

}  // namespace stemfabric
