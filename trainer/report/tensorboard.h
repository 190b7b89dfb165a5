// TensorBoard event files: scalars per step, readable by TensorBoard while the run goes on.
// Framing: TensorFlow's TFRecord (length, masked CRC-32C of it, data, masked CRC-32C of them);
// records: protobuf Event with wall_time, step and simple_value summaries, encoded here by hand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace stemfabric {

struct Scalar {
  std::string_view tag;  // "loss/vocals"
  double value;          // stored as float32; may be non-finite
};

class TensorBoardWriter {
 public:
  // Starts a new file events.out.tfevents.* in `folder` (made if missing): a resumed run adds a
  // file, which TensorBoard joins to the older ones. From first_step on, points of older files are
  // dropped by TensorBoard. IoError if the file cannot be made or written.
  explicit TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step = 0);
  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

  // One record with all scalars of a step, handed to the system before the call returns.
  void add_scalars(int64_t step, std::span<const Scalar> scalars);

  const std::filesystem::path& path() const { return path_; }

 private:
  void write_record(const std::string& data);

  std::filesystem::path path_;
  int file_ = -1;
};

// CRC-32C (Castagnoli, RFC 3720) and the masked form that TFRecord stores.
uint32_t crc32c(std::string_view bytes);
uint32_t masked_crc32c(std::string_view bytes);

}  // namespace stemfabric
