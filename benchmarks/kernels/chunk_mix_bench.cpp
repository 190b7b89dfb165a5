// Mixing of chunks from their parts.
#include "kernels/chunk_mix/chunk_mix.h"

#include <algorithm>
#include <memory>

#include "benchmarks/support/kernel_benchmark.h"
#include "benchmarks/support/random_tensor.h"
#include "runtime/memory/host_access.h"
#include "tests/oracles/chunk_mix_cases.h"

namespace stemfabric::benchmarks {
namespace {

Tensor bytes_of(const ExecutionContext& ctx, const Shape& shape, const void* from) {
  Tensor tensor(shape, DType::kU8, ctx.resource(), "benchmark");
  copy_from_host(ctx, tensor.view(), from);
  return tensor;
}

struct Data {
  Data(const ExecutionContext& ctx, const test::MixCase& c, const test::PackedParts& packed)
      : pcm(bytes_of(ctx, {static_cast<int64_t>(packed.pcm.size())}, packed.pcm.data())),
        parts(bytes_of(ctx, {c.b, c.p, static_cast<int64_t>(sizeof(ChunkPart))},
                       packed.parts.data())),
        stems(output_tensor(ctx, {c.b, c.s, c.c, c.n})),
        mixture(output_tensor(ctx, {c.b, c.c, c.n})) {}
  void run(const ExecutionContext& ctx) {
    chunk_mix(ctx, {.pcm = pcm.view(),
                    .parts = parts.view(),
                    .stems = stems.view(),
                    .mixture = mixture.view()});
  }
  Tensor pcm, parts, stems, mixture;
};

// Six stems and a remainder of every chunk, all as integers or with floats among them.
void register_case(const std::string& name, int64_t chunks, int64_t frames, bool floats,
                   RunsOn on) {
  const auto bytes_per_frame = test::mix_case(name, chunks, 7, 6, 2, 15, floats).bytes() / 15.0;
  register_kernel({.name = "chunk_mix/" + name + "/stemfabric",
                   .on = on,
                   .bytes = bytes_per_frame * static_cast<double>(frames),
                   .prepare = [=](const ExecutionContext& ctx) -> std::function<void()> {
                     const auto c = test::mix_case(name, chunks, 7, 6, 2, frames, floats);
                     auto data = std::make_shared<Data>(ctx, c, test::pack(c));
                     data->run(ctx);
                     const auto oracle = test::chunk_mix_oracle<double>(c);
                     const auto naive = test::chunk_mix_oracle<float>(c);
                     require_within_bound("stems", values_of(ctx, data->stems),
                                          test::widen(naive.stems), oracle.stems);
                     require_within_bound("mixture", values_of(ctx, data->mixture),
                                          test::widen(naive.mixture), oracle.mixture);
                     return [&ctx, data] { data->run(ctx); };
                   }});
}

bool register_all() {
  register_case("b2_n131072_i16", 2, 131072, false, RunsOn::kAny);
  register_case("b2_n131072_mixed", 2, 131072, true, RunsOn::kAny);
  register_case("b8_n262144_i16", 8, 262144, false, RunsOn::kGpu);
  return true;
}
const bool kRegistered = register_all();

}  // namespace
}  // namespace stemfabric::benchmarks
