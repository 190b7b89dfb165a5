#include "trainer/snapshot/sanitize.h"

#include <charconv>
#include <memory>
#include <optional>
#include <vector>

#include "runtime/core/check.h"
#include "runtime/core/log.h"
#include "runtime/core/progress.h"
#include "runtime/device/device.h"
#include "runtime/io/file.h"
#include "trainer/data/ordered_pipeline.h"
#include "trainer/ingest/snapshot_store.h"
#include "trainer/snapshot/id_set.h"
#include "trainer/snapshot/input_files.h"
#include "trainer/snapshot/record.h"
#include "trainer/snapshot/verdict_report.h"

namespace stemfabric {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBlockBytes = 512 << 10;  // of a *.jsonl
constexpr std::size_t kKeptBuffer = 4 << 20;    // larger buffers are given back after use
constexpr int64_t kLoggedRefusals = 20;         // the report holds them all

// What became of one snapshot.
struct Outcome {
  int64_t line = 1;
  Verdict verdict = Verdict::kReject;
  std::vector<std::string> reasons;
  IdSet::Key id{};
  std::size_t output_end = 0;  // in WorkItem::output; it begins where the one before ends
};

// A whole file, a block of lines or a block of a store; then its outcomes.
struct WorkItem {
  InputFile file;
  LineBlocks::Block block;
  bool is_block = false;
  std::vector<StoredSnapshot> stored;
  std::vector<Outcome> outcomes;
  std::string output;
  uint64_t bytes = 0;
};

IdSet::Key key_of(const std::string& hex) {
  IdSet::Key key{};
  std::from_chars(hex.data(), hex.data() + 16, key[0], 16);
  std::from_chars(hex.data() + 16, hex.data() + 32, key[1], 16);
  return key;
}

std::vector<std::string> split_lines(std::string_view text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// What each worker keeps from one snapshot to the next.
class Sanitizer {
 public:
  explicit Sanitizer(const std::string& salt) : salt_(salt) {}

  void work(WorkItem& item) {
    item.outcomes.clear();
    item.output.clear();
    if (!item.stored.empty()) {
      work_stored(item);
    } else if (!item.file.error.empty()) {
      refuse(item, item.block.first_line, fmt::format("cannot be read ({})", item.file.error));
    } else if (item.is_block) {
      work_block(item);
    } else {
      work_file(item);
    }
  }

 private:
  void refuse(WorkItem& item, int64_t line, std::string reason) {
    item.outcomes.push_back({line, Verdict::kReject, {std::move(reason)}, {}, item.output.size()});
  }

  void work_file(WorkItem& item) {
    PaddedText& text = item.block.text;
    item.bytes = 0;
    try {
      if (!read_whole(item.file.path, kMaxSnapshotBytes, text)) {
        refuse(item, 1, "larger than 16 MiB");
        return;
      }
    } catch (const IoError& error) {
      refuse(item, 1, error.what());
      return;
    }
    item.bytes = text.size();
    sanitize(item, 1, text.view());
  }

  void work_block(WorkItem& item) {
    const LineBlocks::Block& block = item.block;
    item.bytes = block.file_bytes;
    if (block.overlong) {
      refuse(item, block.first_line, "larger than 16 MiB");
      return;
    }
    const std::string_view text = block.text.view();
    int64_t line = block.first_line;
    for (std::size_t begin = 0; begin < text.size(); ++line) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      const std::string_view one = text.substr(begin, end - begin);
      if (one.find_first_not_of(" \t\r") != std::string_view::npos) {
        sanitize(item, line, one);
      }
      begin = end + 1;
    }
  }

  // The collector has validated these; what it repaired is in the store.
  void work_stored(WorkItem& item) {
    item.bytes = 0;
    for (const StoredSnapshot& snapshot : item.stored) {
      item.bytes += snapshot.record.size();
      take_stored(item, snapshot);
    }
  }

  void take_stored(WorkItem& item, const StoredSnapshot& snapshot) {
    const std::string begin = "{\"id\":\"" + snapshot.id + "\"";
    if (!snapshot.record.starts_with(begin)) {
      refuse(item, snapshot.sequence, "id: the record in the store has another one");
      return;
    }
    const std::string hashed = sha256_hex(salt_ + snapshot.id);
    const std::size_t start = item.output.size();
    item.output += "{\"id\":\"" + hashed + '"';
    item.output += std::string_view(snapshot.record).substr(begin.size());
    try {
      const std::size_t size = item.output.size() - start;
      item.block.text.resize(size);
      item.output.copy(item.block.text.data(), size, start);
      reader_.read(item.block.text.view(), "the record in the store", record_);
    } catch (const InputError& error) {
      item.output.resize(start);
      refuse(item, snapshot.sequence, error.what());
      return;
    }
    item.output += '\n';
    Outcome& outcome = item.outcomes.emplace_back();
    outcome.line = snapshot.sequence;
    outcome.reasons = split_lines(snapshot.repairs);
    outcome.verdict = outcome.reasons.empty() ? Verdict::kAccept : Verdict::kAcceptWithRepair;
    outcome.id = key_of(hashed);
    outcome.output_end = item.output.size();
  }

  void sanitize(WorkItem& item, int64_t line, std::string_view text) {
    Outcome& outcome = item.outcomes.emplace_back();
    outcome.line = line;
    outcome.verdict = parser_.parse(text, record_, outcome.reasons);
    if (outcome.verdict != Verdict::kReject) {
      record_.id = sha256_hex(salt_ + record_.id);
      outcome.id = key_of(record_.id);
      append_record(record_, item.output);
    }
    outcome.output_end = item.output.size();
  }

  std::string salt_;
  SnapshotParser parser_;
  RecordReader reader_;
  SnapshotRecord record_;
};

// Files one by one, line files and stores in blocks.
class Source {
 public:
  explicit Source(const SanitizeOptions& options) : sequence_(options.after_sequence) {
    if (is_sqlite_file(options.input)) {
      store_.emplace(options.input, StoreAccess::kRead);
      file_.name = options.input.string();
    } else {
      walker_.emplace(options.input, std::vector<fs::path>{options.output, options.report});
    }
  }

  bool produce(WorkItem& item) {
    if (store_) {
      item.file = file_;
      item.stored = store_->read_after(sequence_, kBlockBytes);
      sequence_ = item.stored.empty() ? sequence_ : item.stored.back().sequence;
      return !item.stored.empty();
    }
    while (!blocks_) {
      if (!walker_->next(item.file)) {
        return false;
      }
      item.is_block = false;
      item.block.first_line = 1;
      if (!item.file.lines || !item.file.error.empty()) {
        return true;
      }
      file_ = item.file;
      try {
        blocks_.emplace(file_.path, kBlockBytes, kMaxSnapshotBytes);
      } catch (const IoError& error) {
        item.file.error = error.what();
        return true;
      }
      if (next_block(item)) {
        return true;
      }
    }
    return next_block(item) || produce(item);
  }

 private:
  // The next block of the open line file; closes it at its end.
  bool next_block(WorkItem& item) {
    item.file = file_;
    item.is_block = true;
    bool more = false;
    try {
      more = blocks_->next(item.block);
    } catch (const IoError& error) {
      item.file.error = error.what();
      blocks_.reset();
      return true;
    }
    if (!more) {
      blocks_.reset();
    }
    return more;
  }

  std::optional<SnapshotStore> store_;
  int64_t sequence_;  // of the store: read so far
  std::optional<InputWalker> walker_;
  InputFile file_;
  std::optional<LineBlocks> blocks_;
};

// Takes outcomes in input order: duplicates, output, report, numbers.
class Sink {
 public:
  explicit Sink(const SanitizeOptions& options) : output_(options.output) {
    if (!options.report.empty()) {
      report_.emplace(options.report);
    }
  }

  void consume(WorkItem& item) {
    std::size_t begin = 0;
    for (Outcome& outcome : item.outcomes) {
      const std::string_view text =
          std::string_view(item.output).substr(begin, outcome.output_end - begin);
      begin = outcome.output_end;
      take(item.file.name, outcome, text);
    }
    summary_.input_bytes += item.bytes;
    if (!item.stored.empty()) {
      summary_.last_sequence = item.stored.back().sequence;
    }
    item.block.text.trim(kKeptBuffer);
    if (item.output.capacity() > kKeptBuffer) {
      item.output = {};
    }
  }

  SanitizeSummary commit() {
    if (report_) {
      report_->commit(summary_.counts);
    }
    summary_.output_bytes = output_.written();
    if (summary_.accepted() > 0) {  // else an earlier output stays as it is
      output_.commit();
    }
    return summary_;
  }

  const SanitizeSummary& summary() const { return summary_; }

 private:
  void take(const std::string& name, Outcome& outcome, std::string_view text) {
    if (outcome.verdict != Verdict::kReject && !ids_.insert(outcome.id)) {
      outcome.verdict = Verdict::kDuplicate;
      outcome.reasons = {"id: a snapshot with the same id was accepted before"};
    }
    ++summary_.counts[static_cast<std::size_t>(outcome.verdict)];
    if (outcome.verdict == Verdict::kReject) {
      tally(summary_.refusals, outcome.reasons);
      if (summary_.count(Verdict::kReject) <= kLoggedRefusals) {
        log_warning("{}, line {}: refused: {}", name, outcome.line, outcome.reasons.front());
      }
    } else if (outcome.verdict != Verdict::kDuplicate) {
      tally(summary_.repairs, outcome.reasons);
      output_.write(text);
    }
    if (report_) {
      report_->add(name, outcome.line, outcome.verdict, outcome.reasons);
    }
  }

  // Counts reasons without their numbers in brackets ("spectral[17]", "(3 times)").
  static void tally(std::map<std::string, int64_t>& table,
                    const std::vector<std::string>& reasons) {
    for (std::string reason : reasons) {
      if (const std::size_t times = reason.rfind(" ("); reason.ends_with(" times)")) {
        reason.erase(times);
      }
      const std::size_t open = reason.find('[');
      const std::size_t close = reason.find(']');
      if (open != std::string::npos && close != std::string::npos && close > open) {
        reason.erase(open + 1, close - open - 1);
      }
      if (table.contains(reason) || table.size() < SanitizeSummary::kMaxReasons) {
        ++table[reason];
      }
    }
  }

  AtomicFile output_;
  std::optional<VerdictReport> report_;
  IdSet ids_;
  SanitizeSummary summary_;
};

// All input files, and their bytes for the progress display.
struct InputTotal {
  int64_t files = 0;
  uint64_t bytes = 0;
};
InputTotal count_input(const SanitizeOptions& options) {
  if (is_sqlite_file(options.input)) {
    return {.files = 1, .bytes = 0};
  }
  InputWalker walker(options.input, {});
  InputTotal total;
  for (InputFile file; walker.next(file);) {
    std::error_code error;
    const uintmax_t size = fs::file_size(file.path, error);
    total.bytes += error ? 0 : size;
    ++total.files;
  }
  return total;
}

// Outputs that would replace the input or each other are refused before anything is read.
void require_distinct(const SanitizeOptions& options) {
  const auto same = [](const fs::path& a, const fs::path& b) {
    std::error_code ignored;
    return !a.empty() && !b.empty() &&
           (fs::weakly_canonical(a, ignored) == fs::weakly_canonical(b, ignored) ||
            fs::equivalent(a, b, ignored));
  };
  if (same(options.input, options.output) || same(options.input, options.report) ||
      same(options.output, options.report)) {
    throw UsageError("input, output and report must be three different files ({})",
                     options.output.string());
  }
}

void make_parent(const fs::path& path) {
  if (path.has_parent_path()) {
    make_directories(path.parent_path());
  }
}

}  // namespace

SanitizeSummary sanitize_snapshots(const SanitizeOptions& options) {
  require_distinct(options);
  if (options.after_sequence > 0 && !is_sqlite_file(options.input)) {
    throw UsageError("--after-sequence needs the store of an ingest as --input; {} is none",
                     options.input.string());
  }
  const InputTotal total = progress_enabled() ? count_input(options) : InputTotal();
  make_parent(options.output);
  make_parent(options.report);
  Source source(options);
  Sink sink(options);
  const int threads = options.threads > 0 ? options.threads : available_cores();
  std::vector<std::unique_ptr<Sanitizer>> workers;
  for (int i = 0; i < threads; ++i) {
    workers.push_back(std::make_unique<Sanitizer>(options.salt));
  }
  {
    Progress progress("Sanitizing", "MB", static_cast<int64_t>(total.bytes >> 20));
    OrderedPipeline<WorkItem> pipeline(threads);
    pipeline.run(
        [&](WorkItem& item) { return source.produce(item); },
        [&](WorkItem& item, int worker) { workers[static_cast<std::size_t>(worker)]->work(item); },
        [&](WorkItem& item) {
          sink.consume(item);
          progress.set_done(static_cast<int64_t>(sink.summary().input_bytes >> 20),
                            fmt::format("{} accepted", sink.summary().accepted()));
        });
  }
  if (sink.summary().count(Verdict::kReject) > kLoggedRefusals) {
    log_warning("{} refusals in all; {}", sink.summary().count(Verdict::kReject),
                options.report.empty() ? "give --report to have each of them named"
                                       : options.report.string() + " names each of them");
  }
  return sink.commit();
}

void require_accepted(const SanitizeOptions& options, const SanitizeSummary& summary) {
  if (summary.accepted() > 0) {
    return;
  }
  if (is_sqlite_file(options.input) && summary.count(Verdict::kReject) == 0) {
    throw InputError("{}: holds no snapshot{}", options.input.string(),
                     options.after_sequence > 0
                         ? fmt::format(" that arrived after number {}", options.after_sequence)
                         : "");
  }
  const int64_t files = count_input(options).files;
  if (files == 0) {
    throw InputError("{}: holds no *.json or *.jsonl file; give the folder with the snapshots",
                     options.input.string());
  }
  if (summary.count(Verdict::kReject) == 0) {
    throw InputError("{}: holds no snapshot: {} empty", options.input.string(),
                     files == 1 ? "the file is" : "all files are");
  }
  throw InputError("no snapshot of {} was accepted; {}", options.input.string(),
                   options.report.empty() ? "give --report to see the reason for each"
                                          : "the reasons are in " + options.report.string());
}

}  // namespace stemfabric
