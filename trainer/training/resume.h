// Which checkpoint a run goes on from.
#pragma once

#include <optional>
#include <string>

#include "trainer/training/checkpoint.h"

namespace stemfabric {

// `resume`: "never"; "auto": the newest whole checkpoint of the run folder, with a warning for each
// damaged one that is passed over; or the path of a checkpoint, or of a run folder.
// InputError if a checkpoint that was named, or every one there is, is damaged; ConfigError that
// names the differing keys if it was made with another configuration or other data. Another
// `device`, which is a device_kind(), or code revision is warned about.
std::optional<Checkpoint> choose_checkpoint(const std::string& resume,
                                            const std::filesystem::path& checkpoints,
                                            const RunIdentity& identity, const std::string& device);

}  // namespace stemfabric
