#include "runtime/device/execution_context.h"

namespace stemfabric {

ExecutionContext::ExecutionContext() : ExecutionContext(Options{}) {}

// The stream first: it is what says that there is no such device.
ExecutionContext::ExecutionContext(const Options& options)
    : stream_(make_stream(options.device)),
      threads_(std::make_unique<ThreadPool>(options.threads)),
      resource_(options.resource != nullptr ? options.resource : &default_resource(options.device)),
      staging_(options.staging != nullptr ? options.staging : &staging_resource(options.device)),
      workspace_(std::make_unique<Workspace>(*resource_)),
      deterministic_(options.deterministic),
      tf32_(options.tf32) {}

ExecutionContext::ExecutionContext(std::unique_ptr<Stream> stream, const Options& options)
    : stream_(std::move(stream)),
      threads_(std::make_unique<ThreadPool>(options.threads)),
      resource_(options.resource),
      staging_(options.staging != nullptr ? options.staging : &host_resource()),
      workspace_(std::make_unique<Workspace>(*resource_)),
      deterministic_(options.deterministic),
      tf32_(options.tf32) {}

}  // namespace stemfabric
