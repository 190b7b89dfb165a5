#include "runtime/device/execution_context.h"

namespace stemfabric {

ExecutionContext::ExecutionContext() : ExecutionContext(Options{}) {}

ExecutionContext::ExecutionContext(const Options& options)
    : stream_(make_stream(options.device)),
      threads_(std::make_unique<ThreadPool>(options.threads)),
      resource_(options.resource ? options.resource : &default_resource(options.device)),
      workspace_(std::make_unique<Workspace>(*resource_)),
      deterministic_(options.deterministic) {}

}  // namespace stemfabric
