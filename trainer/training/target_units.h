// In which units a model of snapshots learns its targets. Band energies are thousandths and less,
// far below the steps that an optimiser takes, so training divides each stem's targets by a power
// of two near their root mean square (the data set's manifest has it: targets.scale). Files hold
// weights that answer in the data's own units: the last layer of the stem's head times that power.
// Both ways are exact, so nothing is lost from checkpoint to checkpoint.
#pragma once

#include <array>
#include <vector>

#include "trainer/model/parameter_table.h"
#include "trainer/stems.h"

namespace stemfabric {

class TargetUnits {
 public:
  TargetUnits() { scale_.fill(1.0F); }
  explicit TargetUnits(const std::array<float, kStemCount>& scale) : scale_(scale) {}

  // What training multiplies targets by.
  std::array<float, kStemCount> to_training() const;
  // Of a block of parameters: from what a file holds to what training goes on with, in place.
  void enter(const ParameterTable& table, float* block) const;
  // And back, as a copy.
  std::vector<float> leave(const ParameterTable& table, const float* block) const;

 private:
  std::array<float, kStemCount> scale_;
};

}  // namespace stemfabric
