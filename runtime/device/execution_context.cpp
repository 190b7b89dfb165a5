#include "runtime/device/execution_context.h"

namespace stemfabric {

ExecutionContext::ExecutionContext() : ExecutionContext(Options{}) {}

namespace {
ExecutionContext::Options with_resource(ExecutionContext::Options options) {
  if (options.resource == nullptr) {
    options.resource = &default_resource(options.device);
  }
  return options;
}
}  // namespace

ExecutionContext::ExecutionContext(const Options& options)
    : ExecutionContext(make_stream(options.device), with_resource(options)) {}

ExecutionContext::ExecutionContext(std::unique_ptr<Stream> stream, const Options& options)
    : stream_(std::move(stream)),
      threads_(std::make_unique<ThreadPool>(options.threads)),
      resource_(options.resource),
      workspace_(std::make_unique<Workspace>(*resource_)),
      deterministic_(options.deterministic) {}

}  // namespace stemfabric
