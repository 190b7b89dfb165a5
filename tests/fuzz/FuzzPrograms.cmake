# fuzz_<target>: each target as a libFuzzer program. The sources that the targets reach, and no
# others, are compiled once more for them: instrumented, with AddressSanitizer and UBSan.
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "STEMFABRIC_FUZZ=ON needs clang++ as the compiler; scripts/fuzz.sh says how.")
endif()

set(root ${CMAKE_SOURCE_DIR})
file(GLOB reader_sources CONFIGURE_DEPENDS
  ${root}/runtime/core/*.cpp ${root}/runtime/device/*.cpp ${root}/runtime/io/*.cpp
  ${root}/runtime/memory/*.cpp ${root}/trainer/config/*.cpp ${root}/trainer/snapshot/*.cpp)
list(FILTER reader_sources EXCLUDE REGEX "_cuda\\.cpp$")
foreach(source stems version audio_data/audio_audit audio_data/audio_manifest audio_data/audio_track
    audio_data/csv audio_data/folder_listing audio_data/level audio_data/moisesdb audio_data/stem_map
    audio_data/track_layout data/dataset data/shard model/parameter_table model/weights_file
    training/checkpoint training/json_fields training/training_state)
  list(APPEND reader_sources ${root}/trainer/${source}.cpp)
endforeach()

set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=undefined)
add_library(fuzz_readers STATIC ${reader_sources} ${fuzz_sources} fuzz_target.cpp
  ${root}/tests/support/paths.cpp)
add_dependencies(fuzz_readers stemfabric_revision)
target_include_directories(fuzz_readers PUBLIC ${root}
  PRIVATE $<TARGET_PROPERTY:stemfabric_trainer,INCLUDE_DIRECTORIES>)
target_compile_options(fuzz_readers
  PUBLIC ${sanitize} -O1 -gline-tables-only -fno-omit-frame-pointer -ffp-contract=off
  PRIVATE -fsanitize=fuzzer-no-link)
target_link_libraries(fuzz_readers
  PUBLIC fmt::fmt Threads::Threads
  PRIVATE stemfabric_trainer_dependencies stemfabric_hdf5 spdlog::spdlog PkgConfig::SNDFILE)
set_source_files_properties(${root}/tests/support/paths.cpp PROPERTIES
  COMPILE_DEFINITIONS SF_TEST_DATA_DIR="${root}/tests/data")

# Program and constant of fuzz_target.h.
add_custom_target(fuzz_programs)
foreach(target audio_file:kAudioFile audio_manifest:kAudioManifest
    checkpoint_state:kCheckpointState config_json:kConfigJson config_yaml:kConfigYaml
    dataset_manifest:kDatasetManifest npy:kNpy record:kRecord safetensors:kSafetensors
    snapshot:kSnapshot stem_map:kStemMap track_table:kTrackTable weights:kWeights)
  string(REPLACE ":" ";" target ${target})
  list(GET target 0 name)
  list(GET target 1 constant)
  add_executable(fuzz_${name} libfuzzer_main.cpp)
  target_compile_definitions(fuzz_${name} PRIVATE SF_FUZZ_TARGET=${constant})
  target_link_libraries(fuzz_${name} PRIVATE fuzz_readers)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer ${sanitize})
  add_dependencies(fuzz_programs fuzz_${name})
endforeach()
