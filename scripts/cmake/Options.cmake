# Build options and the flags that every target shares.
option(STEMFABRIC_BUILD_TESTS "Build the tests" ON)
option(STEMFABRIC_BUILD_BENCHMARKS "Build the benchmarks" ON)
option(STEMFABRIC_FUZZ "Add the libFuzzer programs of tests/fuzz (clang++ only)" OFF)
foreach(feature CUDA NCCL CUDNN MPI)
  set(STEMFABRIC_${feature} AUTO CACHE STRING "Use ${feature}: AUTO, ON or OFF")
  set_property(CACHE STEMFABRIC_${feature} PROPERTY STRINGS AUTO ON OFF)
  if(NOT STEMFABRIC_${feature} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "STEMFABRIC_${feature} is '${STEMFABRIC_${feature}}'; use AUTO, ON or OFF")
  endif()
endforeach()
set(STEMFABRIC_SANITIZE "" CACHE STRING "Sanitizers for -fsanitize=, e.g. address,undefined or thread")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_BUILD_RPATH ${CMAKE_BINARY_DIR}/modules)  # what programs load by name: runtime/CMakeLists.txt
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_CXX_FLAGS_RELEASE "-O3")  # asserts stay on: SF_CHECK does not depend on NDEBUG

find_program(STEMFABRIC_CCACHE ccache)
if(STEMFABRIC_CCACHE)
  # Paths relative to the source tree, so that every checkout shares what was compiled.
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 ${STEMFABRIC_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${launcher})
endif()

# Flags for our own code only (dependencies are SYSTEM).
add_library(stemfabric_flags INTERFACE)
target_compile_options(stemfabric_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Werror -Wshadow -Wnon-virtual-dtor
    -Wno-missing-field-initializers -ffp-contract=off>
  $<$<COMPILE_LANGUAGE:CUDA>:-lineinfo --Werror=all-warnings -Xcompiler=-Wall,-Wextra,-Werror
    -Xcompiler=-Wno-missing-field-initializers -DFMT_USE_CONSTEXPR=1>)  # which fmt 9 leaves out under nvcc
if(STEMFABRIC_SANITIZE)
  # GCC 12 warns falsely inside <regex> when it instruments the code.
  target_compile_options(stemfabric_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${STEMFABRIC_SANITIZE} -fno-omit-frame-pointer -g1 -O1
      -Wno-maybe-uninitialized>)
  if(STEMFABRIC_SANITIZE MATCHES undefined)
    # What AddressSanitizer finds too, or the compiler; they would double the time of compiling.
    target_compile_options(stemfabric_flags INTERFACE
      $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=null,vptr,object-size>)
  endif()
  target_link_options(stemfabric_flags INTERFACE -fsanitize=${STEMFABRIC_SANITIZE})
  if(STEMFABRIC_SANITIZE MATCHES thread)
    # ThreadSanitizer does not know fences. Asio's are beside locks that order the same.
    target_compile_definitions(stemfabric_flags INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
  endif()
endif()
