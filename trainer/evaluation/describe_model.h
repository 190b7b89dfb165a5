// What a report says of the model that was evaluated.
#pragma once

#include "trainer/model/trained_model.h"
#include "trainer/report/evaluation_report.h"

namespace stemfabric {

// Its file, and what the file and the run folder that it lies in tell about the training.
void describe_model(const TrainedModel& trained, ReportInputs& report);

}  // namespace stemfabric
