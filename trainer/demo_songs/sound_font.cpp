#include "trainer/demo_songs/sound_font.h"

#include <dlfcn.h>
#include <fluidsynth.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <tuple>

#include "runtime/core/check.h"
#include "runtime/io/file.h"

namespace stemfabric {
namespace {

constexpr const char* kLibrary = "libfluidsynth.so.3";
constexpr int64_t kBlock = 64;  // samples between two looks at the events, of the library
constexpr int kDrumChannel = 9;
constexpr int kDrumBank = 128;
// Channels of the MIDI standard; more layers than that are no song of ours.
constexpr std::size_t kMaxLayers = 8;

// The functions that we call, with the types of the library's header.
class Library {
 public:
  Library() : handle_(dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) {
      throw UsageError("FluidSynth ({}) could not be loaded ({}); {}", kLibrary, dlerror(),
                       sound_font_hint());
    }
#define SF_FIND(name) name = reinterpret_cast<decltype(name)>(find("fluid_" #name))
    SF_FIND(set_log_function);
    SF_FIND(settings_setint);
    SF_FIND(settings_setnum);
    SF_FIND(synth_sfload);
    SF_FIND(synth_program_select);
    SF_FIND(synth_cc);
    SF_FIND(synth_noteon);
    SF_FIND(synth_noteoff);
    SF_FIND(synth_write_float);
#undef SF_FIND
    new_settings = reinterpret_cast<decltype(new_settings)>(find("new_fluid_settings"));
    new_synth = reinterpret_cast<decltype(new_synth)>(find("new_fluid_synth"));
    delete_settings = reinterpret_cast<decltype(delete_settings)>(find("delete_fluid_settings"));
    delete_synth = reinterpret_cast<decltype(delete_synth)>(find("delete_fluid_synth"));
    for (const int level : {FLUID_PANIC, FLUID_ERR, FLUID_WARN, FLUID_INFO, FLUID_DBG}) {
      set_log_function(level, nullptr, nullptr);  // libraries do not print
    }
  }

  decltype(&fluid_set_log_function) set_log_function = nullptr;
  decltype(&fluid_settings_setint) settings_setint = nullptr;
  decltype(&fluid_settings_setnum) settings_setnum = nullptr;
  decltype(&fluid_synth_sfload) synth_sfload = nullptr;
  decltype(&fluid_synth_program_select) synth_program_select = nullptr;
  decltype(&fluid_synth_cc) synth_cc = nullptr;
  decltype(&fluid_synth_noteon) synth_noteon = nullptr;
  decltype(&fluid_synth_noteoff) synth_noteoff = nullptr;
  decltype(&fluid_synth_write_float) synth_write_float = nullptr;
  decltype(&new_fluid_settings) new_settings = nullptr;
  decltype(&new_fluid_synth) new_synth = nullptr;
  decltype(&delete_fluid_settings) delete_settings = nullptr;
  decltype(&delete_fluid_synth) delete_synth = nullptr;

 private:
  void* find(const char* name) const {
    void* function = dlsym(handle_, name);
    if (function == nullptr) {
      throw UsageError(
          "the FluidSynth that is installed ({}) has no function {}; it must be 2.0 or "
          "newer",
          kLibrary, name);
    }
    return function;
  }
  void* handle_;  // never closed: the library keeps threads' data
};

const Library& library() {
  static const Library loaded;  // tried again if it threw
  return loaded;
}

int channel_of(const Layer& layer, std::size_t index) {
  return layer.sound == Sound::kDrumKit ? kDrumChannel : static_cast<int>(index);
}

// FluidSynth shares the samples of a font between synthesizers. With two threads loading and
// freeing them at the same time, version 2.3.1 read freed memory (seen under ThreadSanitizer).
// Playing needs no lock.
std::mutex& loading() {
  static std::mutex mutex;
  return mutex;
}

// A synthesizer with the instruments of some layers.
class Synth {
 public:
  Synth(fluid_settings_t* settings, const std::filesystem::path& path,
        std::span<const Layer> layers) {
    const std::lock_guard lock(loading());
    synth_.reset(library().new_synth(settings));
    if (synth_ == nullptr) {
      throw std::bad_alloc();
    }
    constexpr int kKeepPresets = 0;  // so that no instrument is loaded that is not played
    const int font = library().synth_sfload(get(), path.c_str(), kKeepPresets);
    if (font == FLUID_FAILED) {
      throw InputError("the sound font {} could not be read; it is damaged", path.string());
    }
    for (std::size_t i = 0; i < layers.size(); ++i) {
      select(font, path, layers[i], channel_of(layers[i], i));
    }
  }
  fluid_synth_t* get() const { return synth_.get(); }

 private:
  struct Delete {
    void operator()(fluid_synth_t* synth) const {
      const std::lock_guard lock(loading());
      library().delete_synth(synth);
    }
  };

  void select(int font, const std::filesystem::path& path, const Layer& layer, int channel) {
    const int bank = layer.sound == Sound::kDrumKit ? kDrumBank : 0;
    if (library().synth_program_select(get(), channel, font, bank, layer.program) != FLUID_OK) {
      throw InputError(
          "the sound font {} has no program {} in bank {}; take a complete General MIDI font",
          path.string(), layer.program, bank);
    }
    constexpr int kPan = 10;
    library().synth_cc(get(), channel, kPan, layer.pan);
  }

  std::unique_ptr<fluid_synth_t, Delete> synth_;
};

struct Event {
  int64_t block;
  int velocity;  // 0 ends the note; sorts before those that begin
  int channel;
  int key;
  friend auto operator<=>(const Event& a, const Event& b) {
    return std::tie(a.block, a.velocity, a.channel, a.key) <=>
           std::tie(b.block, b.velocity, b.channel, b.key);
  }
};

// Before the library sees it: its loaders of other formats print what they do not understand.
void check_riff(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.size() < 12 || !text.starts_with("RIFF") || text.substr(8, 4) != "sfbk") {
    throw InputError("{} is no sound font (.sf2); {}", path.string(), sound_font_hint());
  }
  uint32_t size = 0;  // of what follows it, little-endian
  for (int i = 3; i >= 0; --i) {
    size = size << 8 | static_cast<uint8_t>(text[static_cast<std::size_t>(4 + i)]);
  }
  if (text.size() < size + uint64_t{8}) {
    throw InputError("the sound font {} is cut off: {} of {} bytes", path.string(), text.size(),
                     size + uint64_t{8});
  }
}

std::vector<Event> events_of(std::span<const Layer> layers, double samples_per_beat) {
  std::vector<Event> events;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const int channel = channel_of(layers[i], i);
    for (const Note& note : layers[i].notes) {
      const auto block = [&](double beat) {
        return std::llround(beat * samples_per_beat / static_cast<double>(kBlock));
      };
      const int64_t start = block(note.start);
      const int64_t end = std::max<int64_t>(start + 1, block(note.start + note.length));
      events.push_back({start, note.velocity, channel, note.key});
      events.push_back({end, 0, channel, note.key});
    }
  }
  std::sort(events.begin(), events.end());
  return events;
}

}  // namespace

struct SoundFont::State {
  std::filesystem::path path;
  int sample_rate = 0;
  fluid_settings_t* settings = nullptr;

  ~State() {
    if (settings != nullptr) {
      library().delete_settings(settings);
    }
  }
};

std::string sound_font_hint() {
  return "install FluidSynth and a General MIDI sound font (Debian: apt install libfluidsynth3 "
         "fluid-soundfont-gm), or name a font with --sound-font";
}

std::filesystem::path find_sound_font() {
  for (const char* path :
       {"/usr/share/sounds/sf2/FluidR3_GM.sf2", "/usr/share/soundfonts/FluidR3_GM.sf2",
        "/usr/share/sounds/sf2/default-GM.sf2", "/usr/share/soundfonts/default.sf2"}) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) {
      return path;
    }
  }
  return {};
}

SoundFont::SoundFont(const std::filesystem::path& path, int sample_rate)
    : state_(std::make_unique<State>()) {
  state_->path = path;
  state_->sample_rate = sample_rate;
  const Library& fluid = library();
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    throw InputError("the sound font {} is not there or no file; {}", path.string(),
                     sound_font_hint());
  }
  check_riff(path);
  state_->settings = fluid.new_settings();
  if (state_->settings == nullptr) {
    throw std::bad_alloc();
  }
  fluid_settings_t* settings = state_->settings;
  fluid.settings_setnum(settings, "synth.sample-rate", sample_rate);
  fluid.settings_setnum(settings, "synth.gain", 0.5);
  fluid.settings_setint(settings, "synth.polyphony", 256);
  fluid.settings_setint(settings, "synth.reverb.active", 0);
  fluid.settings_setint(settings, "synth.chorus.active", 0);
  // Only the instruments that are played are read: a quarter of the memory and half of the time.
  fluid.settings_setint(settings, "synth.dynamic-sample-loading", 1);
}

SoundFont::~SoundFont() = default;

const std::filesystem::path& SoundFont::path() const { return state_->path; }

std::vector<float> SoundFont::play(std::span<const Layer> layers, double bpm,
                                   int64_t frames) const {
  SF_CHECK(layers.size() <= kMaxLayers, "{} layers", layers.size());
  const Library& fluid = library();
  const Synth synth(state_->settings, state_->path, layers);
  const int64_t blocks = (frames + kBlock - 1) / kBlock;
  std::vector<float> samples(static_cast<std::size_t>(blocks * kBlock * 2));
  int64_t done = 0;
  const auto play_until = [&](int64_t block) {
    if (block > done) {
      const auto at = static_cast<int>(done * kBlock);
      fluid.synth_write_float(synth.get(), static_cast<int>((block - done) * kBlock),
                              samples.data(), 2 * at, 2, samples.data(), 2 * at + 1, 2);
      done = block;
    }
  };
  for (const Event& event : events_of(layers, 60.0 * state_->sample_rate / bpm)) {
    play_until(std::min(event.block, blocks));
    if (event.velocity > 0) {
      fluid.synth_noteon(synth.get(), event.channel, event.key, event.velocity);
    } else {
      fluid.synth_noteoff(synth.get(), event.channel, event.key);
    }
  }
  play_until(blocks);
  samples.resize(static_cast<std::size_t>(frames * 2));
  return samples;
}

}  // namespace stemfabric
