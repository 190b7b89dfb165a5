# fuzz_<target>: each target as a libFuzzer program. The sources that the targets reach, and no
# others, are compiled once more for them: instrumented, with AddressSanitizer and UBSan.
if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  message(FATAL_ERROR "STEMFABRIC_FUZZ=ON needs clang++ as the compiler; scripts/fuzz.sh says how.")
endif()

set(root ${CMAKE_SOURCE_DIR})
foreach(source
    runtime/core/check runtime/core/dtype runtime/core/log runtime/core/shape
    runtime/core/tensor_view runtime/device/device runtime/device/execution_context
    runtime/device/stream runtime/device/thread_pool runtime/io/audio_file runtime/io/file
    runtime/io/folder runtime/io/npy runtime/io/npy_header runtime/io/safetensors
    runtime/io/self_hash runtime/io/sha256 runtime/memory/buffer runtime/memory/host_access
    runtime/memory/memory_resource trainer/audio_data/audio_audit
    trainer/audio_data/audio_manifest trainer/audio_data/audio_track trainer/audio_data/csv
    trainer/audio_data/folder_listing trainer/audio_data/level trainer/audio_data/moisesdb
    trainer/audio_data/stem_map trainer/audio_data/track_layout trainer/config/config_io
    trainer/config/config_print trainer/config/config_reader trainer/config/config_rules
    trainer/config/fields trainer/config/json_document trainer/config/suggest
    trainer/config/yaml_document trainer/data/dataset trainer/data/shard
    trainer/ingest/client_limit trainer/ingest/collector trainer/ingest/http_server trainer/ingest/http_session
    trainer/ingest/ingest_metrics trainer/ingest/log_checkpointer trainer/ingest/snapshot_store
    trainer/ingest/snapshot_writer trainer/model/parameter_table trainer/model/weights_file trainer/snapshot/input_files
    trainer/snapshot/layout trainer/snapshot/record_reader trainer/snapshot/record_writer
    trainer/snapshot/schema trainer/snapshot/snapshot_parser
    trainer/snapshot/snapshot_parser_context trainer/snapshot/strict_json trainer/stems
    trainer/training/checkpoint trainer/training/json_fields trainer/training/target_units
    trainer/training/training_state
    trainer/version tests/support/http_client tests/support/paths)
  list(APPEND reader_sources ${root}/${source}.cpp)
endforeach()

set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=undefined)
add_library(fuzz_readers STATIC ${reader_sources} ${fuzz_sources} fuzz_target.cpp)
add_dependencies(fuzz_readers stemfabric_revision)
target_include_directories(fuzz_readers PUBLIC ${root}
  PRIVATE $<TARGET_PROPERTY:stemfabric_trainer,INCLUDE_DIRECTORIES>)
target_compile_options(fuzz_readers
  PUBLIC ${sanitize} -O1 -gline-tables-only -fno-omit-frame-pointer -ffp-contract=off
  PRIVATE -fsanitize=fuzzer-no-link)
target_link_libraries(fuzz_readers
  PUBLIC fmt::fmt Threads::Threads
  PRIVATE stemfabric_trainer_dependencies spdlog::spdlog PkgConfig::SNDFILE)
set_source_files_properties(${root}/tests/support/paths.cpp PROPERTIES
  COMPILE_DEFINITIONS SF_TEST_DATA_DIR="${root}/tests/data")

# Program and constant of fuzz_target.h.
add_custom_target(fuzz_programs)
foreach(target audio_file:kAudioFile audio_manifest:kAudioManifest
    checkpoint_state:kCheckpointState config_json:kConfigJson config_yaml:kConfigYaml
    dataset_manifest:kDatasetManifest http:kHttp npy:kNpy record:kRecord safetensors:kSafetensors
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
