// A stereo signal of known length on its way to the disk: planar i16 or f32 in a file of its own,
// written block by block and then mapped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "runtime/core/tensor_view.h"
#include "runtime/io/file.h"
#include "trainer/audio_data/source_signal.h"

namespace stemfabric {

class PcmScratch {
 public:
  PcmScratch(const std::filesystem::path& path, int64_t frames, DType dtype);
  ~PcmScratch();  // removes the file
  PcmScratch(const PcmScratch&) = delete;
  PcmScratch& operator=(const PcmScratch&) = delete;

  // The next frames. False if the file is i16 and a sample is no integer / 32768 in its range.
  bool append(const StereoBlock& block, int64_t frames);
  // [2, frames], once all was appended.
  ConstTensorView view();

 private:
  std::filesystem::path path_;
  int64_t frames_;
  DType dtype_;
  int64_t written_ = 0;
  std::ofstream stream_;
  std::vector<int16_t> narrow_;
  std::unique_ptr<MappedFile> map_;
};

}  // namespace stemfabric
