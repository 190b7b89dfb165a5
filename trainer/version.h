// Which code this is: recorded in every checkpoint, model and report.
#pragma once

#include <string_view>

namespace stemfabric {

std::string_view version();        // "0.1.0"
std::string_view code_revision();  // git revision at build time, "-dirty" if changed; or "unknown"
std::string_view version_line();   // "stemfabric 0.1.0 (1a2b3c4d; CUDA no, NCCL no, MPI yes)"

}  // namespace stemfabric
