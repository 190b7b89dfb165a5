// The runtime's CUDA half (runtime/device/device_cuda.cpp, runtime/memory/memory_resource_cuda.cpp)
// on a stand-in for CUDA's library: what it asks for, and every error it can meet.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <stdexcept>

#include "runtime/core/check.h"
#include "runtime/device/cuda_library.h"
#include "runtime/device/device_choice.h"
#include "runtime/device/device_cuda.h"
#include "runtime/device/execution_context.h"
#include "tests/cuda_runtime/host_cuda.h"

namespace stemfabric {
namespace {

using test::host_cuda;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// The message of the error that `work` throws, which must be an Expected.
template <typename Expected, typename Work>
std::string error_of(Work work) {
  try {
    work();
  } catch (const Expected& error) {
    return error.what();
  }
  return "no error";
}

class CudaRuntime : public testing::Test {
 protected:
  ~CudaRuntime() override {
    ::unsetenv("STEMFABRIC_SYNC_LAUNCHES");
    test::reset_host_cuda();
  }

  void launch(const char* name, const char* kernel, unsigned grid = 1, std::size_t shared = 0) {
    cuda::launch(*stream_, name, kernel, {grid, 1, 1}, {128, 1, 1}, nullptr, shared);
  }

  std::unique_ptr<Stream> stream_ = cuda::make_stream(0);
};

TEST_F(CudaRuntime, SaysWhyThereIsNoDevice) {
  EXPECT_EQ(cuda::unavailable_reason(), "");
  host_cuda().survey = cudaErrorInsufficientDriver;
  host_cuda().driver = 12040;
  EXPECT_EQ(cuda::unavailable_reason(),
            "the NVIDIA driver is too old: it knows CUDA 12.4, and this build needs 13.0");
  host_cuda().driver = 0;
  EXPECT_EQ(cuda::unavailable_reason(), "no NVIDIA driver is installed");
  host_cuda().survey = cudaErrorSystemNotReady;
  EXPECT_EQ(cuda::unavailable_reason(), "CUDA says: system not yet initialized");
  EXPECT_EQ(list_devices().size(), 1U);
  host_cuda().survey = cudaSuccess;
  host_cuda().devices = 0;
  EXPECT_EQ(cuda::unavailable_reason(), "CUDA found no device");
  EXPECT_THAT(error_of<DeviceError>(
                  [] { (void)choose_device("cuda", "training.device", survey_devices()); }),
              AllOf(HasSubstr("training.device"), HasSubstr("CUDA found no device")));
}

TEST_F(CudaRuntime, ListsTheDevicesThatWork) {
  host_cuda().devices = 3;
  host_cuda().broken = {1};
  std::vector<DeviceInfo> devices;
  cuda::append_devices(devices);
  ASSERT_EQ(devices.size(), 2U);
  EXPECT_EQ(devices[1].device.index, 2);
  EXPECT_EQ(devices[1].capability, "9.0");
  EXPECT_EQ(devices[1].processors, 132);
  EXPECT_EQ(choose_device("auto", "training.device", survey_devices()).device.to_string(),
            "cuda:0");
}

TEST_F(CudaRuntime, OutOfMemoryNamesWhoAskedAndCanBeGoneOnFrom) {
  host_cuda().free_bytes = 1000;
  MemoryResource& memory = device_resource(0);
  EXPECT_EQ(memory.available_bytes(), 1000);
  void* kept = memory.allocate(600, "weights");
  EXPECT_THAT(error_of<OutOfMemoryError>([&] { (void)memory.allocate(500, "activations"); }),
              AllOf(HasSubstr("device memory"), HasSubstr("activations asked for 500 bytes")));
  memory.deallocate(kept, 600);
  kept = memory.allocate(1000, "activations");
  memory.deallocate(kept, 1000);
  host_cuda().pinned_bytes = 10;
  EXPECT_THAT(error_of<OutOfMemoryError>([] { (void)pinned_resource().allocate(11, "batches"); }),
              HasSubstr("batches asked for 11 bytes"));
  EXPECT_EQ(host_cuda().allocations, 0);
  launch("next_kernel", "k");  // no error is left over for it
}

TEST_F(CudaRuntime, ALaunchThatIsRefusedNamesTheKernel) {
  host_cuda().launch = cudaErrorInvalidConfiguration;
  EXPECT_THAT(error_of<DeviceError>([&] { launch("column_sum_kernel", "k"); }),
              AllOf(HasSubstr("column_sum_kernel"), HasSubstr("cuda:0"),
                    HasSubstr("cudaErrorInvalidConfiguration")));
  host_cuda().max_shared = 99 * 1024;
  EXPECT_THAT(error_of<DeviceError>([&] { launch("attention_kernel", "k", 1, 100 * 1024); }),
              HasSubstr("attention_kernel"));
}

TEST_F(CudaRuntime, MuchSharedMemoryIsAskedForBeforeTheLaunch) {
  host_cuda().calls.clear();
  launch("small_kernel", "k", 7, 48 * 1024);
  launch("large_kernel", "k", 8, 64 * 1024);
  EXPECT_THAT(host_cuda().calls,
              ElementsAre("launch 7 x 128, 49152", "shared 65536", "launch 8 x 128, 65536"));
}

TEST_F(CudaRuntime, AFaultOfAKernelNamesTheLastOneLaunched) {
  static const char kernel = 0;
  host_cuda().faulty_kernel = &kernel;
  launch("adam_step_kernel", &kernel);
  EXPECT_THAT(error_of<DeviceError>([&] { stream_->synchronize(); }),
              AllOf(HasSubstr("illegal memory access"), HasSubstr("adam_step_kernel"),
                    HasSubstr("STEMFABRIC_SYNC_LAUNCHES=1")));
  // So does the next call of any kind, since nothing works any more.
  EXPECT_THAT(error_of<DeviceError>([] { (void)device_resource(0).available_bytes(); }),
              HasSubstr("adam_step_kernel"));
}

TEST_F(CudaRuntime, WithWaitingLaunchesTheFaultyKernelItselfIsNamed) {
  ASSERT_EQ(::setenv("STEMFABRIC_SYNC_LAUNCHES", "1", 1), 0);
  static const char kernel = 0;
  host_cuda().faulty_kernel = &kernel;
  launch("innocent_kernel", "k");
  EXPECT_THAT(error_of<DeviceError>([&] { launch("guilty_kernel", &kernel); }),
              AllOf(HasSubstr("guilty_kernel"), HasSubstr("illegal memory access"),
                    testing::Not(HasSubstr("STEMFABRIC_SYNC_LAUNCHES"))));
}

// What a library launches goes by no launch of ours.
TEST_F(CudaRuntime, AFaultOfALibrarysKernelNamesTheLibrary) {
  static const char kernel = 0;
  host_cuda().faulty_kernel = &kernel;
  const auto product = [&] {
    ASSERT_EQ(cudaLaunchKernel(&kernel, dim3(1), dim3(1), nullptr, 0,
                               static_cast<cudaStream_t>(stream_->native())),
              cudaSuccess);
    cuda::library_work_queued(*stream_, "cuBLASLt product");
  };
  launch("innocent_kernel", "k");
  product();
  EXPECT_THAT(error_of<DeviceError>([&] { stream_->synchronize(); }),
              AllOf(HasSubstr("illegal memory access"), HasSubstr("cuBLASLt product")));
  test::reset_host_cuda();
  host_cuda().faulty_kernel = &kernel;
  ASSERT_EQ(::setenv("STEMFABRIC_SYNC_LAUNCHES", "1", 1), 0);
  launch("innocent_kernel", "k");
  EXPECT_THAT(error_of<DeviceError>(product), HasSubstr("cuBLASLt product"));
}

TEST_F(CudaRuntime, StreamsWorkInOrderAndWaitForEachOther) {
  const std::unique_ptr<Stream> other = cuda::make_stream(0);
  int host = 5;
  int first = 0;
  int second = 0;
  stream_->copy(&first, &host, sizeof(host));
  const std::unique_ptr<Event> copied = stream_->record();
  stream_->fill(&host, 0, sizeof(host));
  const std::unique_ptr<Event> filled = stream_->record();
  other->wait(*copied);
  other->copy(&second, &first, sizeof(first));
  EXPECT_EQ(first, 0);  // nobody has waited yet
  other->synchronize();
  EXPECT_EQ(second, 5);
  EXPECT_EQ(host, 5);  // behind what was waited for
  filled->synchronize();
  EXPECT_EQ(host, 0);
  EXPECT_DOUBLE_EQ(filled->seconds_since(*copied), 1e-3);
}

TEST_F(CudaRuntime, AnEventIsDoneWhenTheWorkBeforeItIs) {
  int from = 5, to = 0, later = 0;
  stream_->copy(&later, &from, sizeof from);
  stream_->copy(&to, &from, sizeof from);
  const std::unique_ptr<Event> event = stream_->record();
  EXPECT_FALSE(event->done());
  EXPECT_EQ(to, 0);
  EXPECT_TRUE(event->done());
  EXPECT_EQ(to, 5);
  static const char kernel = 0;
  host_cuda().faulty_kernel = &kernel;
  launch("faulty_kernel", &kernel);
  const std::unique_ptr<Event> never = stream_->record();
  EXPECT_THAT(error_of<DeviceError>([&] { never->done(); }),
              AllOf(HasSubstr("cudaEventQuery"), HasSubstr("faulty_kernel")));
}

TEST_F(CudaRuntime, StreamsThatFollowEachOtherAreCapturedTogether) {
  const std::unique_ptr<Stream> other = stream_->another();
  EXPECT_EQ(other->device(), stream_->device());
  int from = 5, between = 0, to = 0;
  const auto work = [&] {
    stream_->copy(&between, &from, sizeof from);
    other->follow(*stream_);
    other->copy(&to, &between, sizeof to);
    stream_->follow(*other);
    stream_->fill(&between, 0, sizeof between);
  };
  work();
  stream_->synchronize();
  EXPECT_EQ(to, 5);
  EXPECT_EQ(between, 0);
  const std::unique_ptr<Graph> graph = stream_->capture(work);
  from = 6;
  graph->launch();
  EXPECT_EQ(to, 5) << "captured work was done";
  stream_->synchronize();
  EXPECT_EQ(to, 6);
  EXPECT_EQ(host_cuda().events, 0);
  EXPECT_THAT(error_of<DeviceError>([&] {
                stream_->capture([&] {
                  other->follow(*stream_);
                  other->fill(&to, 0, sizeof to);
                });
              }),
              HasSubstr("cudaStreamEndCapture"));
  other->fill(&to, 0, sizeof to);  // is captured no more
  other->synchronize();
  EXPECT_EQ(to, 0);
}

TEST_F(CudaRuntime, ACapturedGraphDoesItsWorkAtEachLaunch) {
  int from = 5;
  int to = 0;
  int back = 0;
  {
    const std::unique_ptr<Graph> graph = stream_->capture([&] {
      stream_->copy(&to, &from, sizeof to);
      stream_->copy(&back, &to, sizeof back);
      launch("captured_kernel", "k");
    });
    EXPECT_EQ(host_cuda().graphs, 1) << "all but the executable is given back";
    stream_->synchronize();
    EXPECT_EQ(back, 0) << "captured work was done";
    for (from = 6; from < 8; ++from) {
      graph->launch();
      EXPECT_EQ(back, from == 6 ? 0 : 6);
      stream_->synchronize();
      EXPECT_EQ(back, from);
    }
  }
  EXPECT_EQ(host_cuda().graphs, 0);
}

TEST_F(CudaRuntime, ACaptureThatFailsLeavesTheStreamAsItWas) {
  EXPECT_THAT(error_of<DeviceError>([&] { stream_->capture([&] { stream_->synchronize(); }); }),
              HasSubstr("cudaStreamSynchronize"));
  EXPECT_THAT(error_of<std::runtime_error>([&] {
                stream_->capture([] { throw std::runtime_error("of the work itself"); });
              }),
              HasSubstr("of the work itself"));
  EXPECT_THROW(stream_->capture([&] { (void)stream_->record(); }), DeviceError);
  EXPECT_THROW(stream_->capture([] { (void)device_resource(0).allocate(1, "scratch"); }), Error);
  host_cuda().instantiate = cudaErrorMemoryAllocation;
  EXPECT_THAT(error_of<OutOfMemoryError>([&] { stream_->capture([] {}); }),
              HasSubstr("cudaGraphInstantiate"));
  EXPECT_EQ(host_cuda().graphs, 0);
  EXPECT_EQ(host_cuda().events, 0);
  launch("next_kernel", "k");  // no error is left over for it
  int from = 5;
  int to = 0;
  stream_->copy(&to, &from, sizeof to);
  stream_->synchronize();
  EXPECT_EQ(to, 5);
}

TEST_F(CudaRuntime, NothingIsCapturedWhereLaunchesWait) {
  EXPECT_TRUE(stream_->can_capture());
  ASSERT_EQ(::setenv("STEMFABRIC_SYNC_LAUNCHES", "1", 1), 0);
  EXPECT_FALSE(stream_->can_capture());
  EXPECT_THROW(make_stream({})->capture([] {}), InternalError) << "a CPU has no graphs";
}

TEST_F(CudaRuntime, AContextTakesPinnedMemoryAndGivesAllBack) {
  const int streams = host_cuda().streams;
  {
    const ExecutionContext ctx({.device = {DeviceKind::kCuda, 0}, .threads = 1});
    EXPECT_EQ(ctx.staging().name(), "pinned");
    EXPECT_EQ(ctx.resource().name(), "device");
    EXPECT_EQ(host_cuda().streams, streams + 1);
    EXPECT_EQ(host_cuda().calls.back(), "stream");
    (void)ctx.stream().record();
  }
  EXPECT_EQ(host_cuda().streams, streams);
  EXPECT_EQ(host_cuda().events, 0);
  EXPECT_EQ(host_cuda().allocations, 0);
}

}  // namespace
}  // namespace stemfabric
