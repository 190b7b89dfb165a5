#include "trainer/export/export_model.h"

#include <algorithm>
#include <array>
#include <sstream>

#include "runtime/core/check.h"
#include "runtime/io/file.h"
#include "runtime/memory/host_access.h"
#include "trainer/export/evaluator/evaluators.h"
#include "trainer/export/keras_h5.h"
#include "trainer/export/model_weights.h"
#include "trainer/export/onnx_graph.h"
#include "trainer/export/tfjs_graph.h"
#include "trainer/export/verification.h"
#include "trainer/model/weights_file.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

struct Source {
  const TrainedModel& trained;
  const ModelWeights& weights;
  WebWeights web_weights;
};

void write_h5(const fs::path& path, const Source& source) {
  const ModelWeights& weights = source.weights;
  write_keras_h5(path, weights.config(), weights.table(), weights.block(), weights.statistics());
}

void write_tfjs_folder(const fs::path& path, const Source& source) {
  make_directories(path);
  write_tfjs(path, source.weights, source.web_weights);
}

void write_onnx_file(const fs::path& path, const Source& source) {
  write_onnx(path, source.weights);
}

void write_safetensors_file(const fs::path& path, const Source& source) {
  const ModelWeights& weights = source.weights;
  write_weights(path, weights.config(), weights.table(), weights.block(), weights.statistics(),
                source.trained.metadata);
}

struct Format {
  ExportFormat format;
  const char* name;
  const char* target;  // file or folder within the export
  void (*write)(const fs::path&, const Source&);
  evaluator::Evaluator (*open)(const fs::path&);
};
constexpr std::array<Format, 4> kFormats = {{
    {ExportFormat::kKerasH5, "keras-h5", "model.h5", write_h5, evaluator::open_keras_h5},
    {ExportFormat::kTfjs, "tfjs", "tfjs", write_tfjs_folder, evaluator::open_tfjs},
    {ExportFormat::kOnnx, "onnx", "model.onnx", write_onnx_file, evaluator::open_onnx},
    {ExportFormat::kSafetensors, "safetensors", "model.safetensors", write_safetensors_file,
     evaluator::open_weights},
}};

const Format& format_of(ExportFormat format) {
  return *std::ranges::find(kFormats, format, &Format::format);
}

// Replacing a folder must not cost anybody a file that no export wrote, or that was changed since.
void check_target(const fs::path& output_dir) {
  std::error_code error;
  if (!fs::exists(output_dir, error)) {
    return;
  }
  if (!fs::is_directory(output_dir, error)) {
    throw UsageError("{} is no folder; give --output-dir another name", output_dir.string());
  }
  const std::map<std::string, std::string> listed = files_of_model_card(output_dir);
  for (const auto& entry : fs::recursive_directory_iterator(output_dir)) {
    if (fs::is_directory(entry.symlink_status())) {
      continue;
    }
    const std::string name = fs::relative(entry.path(), output_dir).generic_string();
    const bool is_card = name == kModelCardPage || name == kModelCardData;
    const auto file = listed.find(name);
    if (listed.empty() || !entry.is_regular_file() ||
        (!is_card && (file == listed.end() || sha256_file(entry.path()) != file->second))) {
      throw UsageError(
          "{} holds {}, which is none of the files that the {} of an export lists there, or has "
          "changed since; give --output-dir a new folder, an empty one, or that of an earlier "
          "export",
          output_dir.string(), name, kModelCardData);
    }
  }
}

// The folder to write, without a slash at its end: its parent is then the folder it lies in.
fs::path without_slash(const fs::path& output_dir) {
  const fs::path path = fs::absolute(output_dir).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

// The folders above `target` that are not there yet. They go again, deepest first, unless keep()
// was called; one in which there is something by then stays.
class NewParents {
 public:
  explicit NewParents(const fs::path& target) {
    std::error_code ignored;
    for (fs::path parent = target.parent_path();
         !fs::exists(parent, ignored) && parent.has_relative_path();
         parent = parent.parent_path()) {
      folders_.push_back(parent);
    }
  }
  ~NewParents() {
    std::error_code ignored;
    for (const fs::path& folder : folders_) {
      fs::remove(folder, ignored);
    }
  }
  NewParents(const NewParents&) = delete;
  NewParents& operator=(const NewParents&) = delete;
  void keep() { folders_.clear(); }

 private:
  std::vector<fs::path> folders_;
};

// The folder's old contents go when the export is done; the weights must not be among them.
void check_weights_outside(const fs::path& weights, const fs::path& output_dir) {
  std::error_code error;
  if (fs::equivalent(weights.parent_path().empty() ? "." : weights.parent_path(), output_dir,
                     error)) {
    throw UsageError("{} lies in --output-dir itself, which is replaced; give another folder",
                     weights.string());
  }
}

void check_expressible(const Source& source, const std::vector<ExportFormat>& formats) {
  const bool keras = std::ranges::find(formats, ExportFormat::kKerasH5) != formats.end();
  const auto obstacle = keras_h5_obstacle(source.weights.config());
  if (keras && obstacle) {
    throw ConfigError(
        "{} cannot be exported as keras-h5: {}; leave it out: --format tfjs,onnx,safetensors",
        source.trained.weights.string(), *obstacle);
  }
}

// The files of one format, by name.
std::vector<ExportedFile> files_of(const Format& format, const fs::path& folder) {
  std::vector<ExportedFile> files;
  const auto add = [&](const fs::path& path) {
    files.push_back({format.name, fs::relative(path, folder).generic_string(), fs::file_size(path),
                     sha256_file(path)});
  };
  const fs::path target = folder / format.target;
  if (!fs::is_directory(target)) {
    add(target);
    return files;
  }
  for (const auto& entry : fs::directory_iterator(target)) {
    add(entry.path());
  }
  std::ranges::sort(files, {}, &ExportedFile::name);
  return files;
}

// Puts these weights in the place of the model's.
void set_weights(Separator& model, const ModelWeights& weights) {
  write_on_host(model.context(), model.weights(), [&](const TensorView& host) {
    std::copy_n(weights.block(), weights.table().block_elements(), host.as<float>());
  });
}

// The trainer with the weights that packed tfjs files hold.
ExportReference packed_reference(const TrainedModel& trained, const Source& source) {
  set_weights(*trained.model, rounded_weights(source.weights, source.web_weights));
  ExportReference reference(trained);
  set_weights(*trained.model, source.weights);
  return reference;
}

}  // namespace

std::vector<ExportFormat> parse_export_formats(const std::string& text) {
  std::vector<ExportFormat> formats;
  std::istringstream stream(text);
  for (std::string name; std::getline(stream, name, ',');) {
    const auto* found =
        std::ranges::find_if(kFormats, [&](const Format& format) { return name == format.name; });
    if (found == kFormats.end()) {
      throw UsageError("--format: '{}' is none of keras-h5, tfjs, onnx, safetensors", name);
    }
    if (std::ranges::find(formats, found->format) != formats.end()) {
      throw UsageError("--format: {} is given twice", name);
    }
    formats.push_back(found->format);
  }
  if (formats.empty()) {
    throw UsageError("--format: names no format; give some of keras-h5, tfjs, onnx, safetensors");
  }
  return formats;
}

ExportResult export_model(const ExecutionContext& ctx, const ExportRequest& request) {
  check_target(request.output_dir);
  const bool packed = request.web_weights != WebWeights::kFp32;
  if (packed && std::ranges::find(request.formats, ExportFormat::kTfjs) == request.formats.end()) {
    throw UsageError("--web-weights {} is for tfjs, which --format does not name",
                     web_weights_name(request.web_weights));
  }
  const fs::path path = find_weights(request.model);
  check_weights_outside(path, request.output_dir);
  const ModelWeights weights = ModelWeights::load(path);
  const int64_t longest = std::min(weights.config().max_sequence_length, kLongestVerified);
  const TrainedModel trained = open_trained_model(ctx, path, 3, longest);
  const Source source{trained, weights, request.web_weights};
  check_expressible(source, request.formats);
  const std::string evaluation = find_evaluation(trained, request.evaluation);
  const ExportReference reference(trained);

  ExportResult result{.weights = path, .files = {}, .agreement = {}, .web_weights = {}};
  std::optional<ExportReference> of_packed;
  if (packed) {
    of_packed.emplace(packed_reference(trained, source));
    const ExportReference::Loss loss = of_packed->loss_against(reference);
    result.web_weights = {web_weights_name(request.web_weights), loss.largest, loss.rms};
  }
  const fs::path target = without_slash(request.output_dir);
  NewParents parents(target);
  make_directories(target.parent_path());
  const auto fill = [&](const fs::path& folder) {
    for (const ExportFormat wanted : request.formats) {
      const Format& format = format_of(wanted);
      format.write(folder / format.target, source);
      const bool is_packed_file = packed && wanted == ExportFormat::kTfjs;
      result.agreement[format.name] =
          (is_packed_file ? *of_packed : reference)
              .agreement(format.target, format.open(folder / format.target));
      const auto files = files_of(format, folder);
      result.files.insert(result.files.end(), files.begin(), files.end());
    }
    write_model_card(folder, {.trained = trained,
                              .evaluation = evaluation,
                              .licence = request.licence,
                              .files = result.files,
                              .agreement = result.agreement,
                              .web_weights = result.web_weights});
  };
  replace_directory_atomically(target, fill);
  parents.keep();
  return result;
}

}  // namespace stemfabric
