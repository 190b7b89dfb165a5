# sf_add_layer(name [DEPENDS targets...] [OBJECTS regex]): the static library stemfabric_<name> of one layer.
# Every *.cpp below the folder belongs to it; *_cuda.cpp and *.cu only when CUDA is on, and *_mpi.cpp,
# of which runtime/ makes a module of its own, never. Folders cli/
# (the executable) and simt/ (the host's stand-in for a GPU, tests only) are not part of it. Sources
# that match OBJECTS are compiled as the object library stemfabric_<name>_objects, for other users.
function(sf_add_layer name)
  cmake_parse_arguments(ARG "" "OBJECTS" "DEPENDS" ${ARGN})
  set(root ${CMAKE_SOURCE_DIR}/${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${root}/*.cpp)
  file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${root}/*.cu ${root}/*_cuda.cpp)
  list(FILTER sources EXCLUDE REGEX "_(cuda|mpi)\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "/${name}/(.*/)?(cli|simt)/")
  if(STEMFABRIC_HAVE_CUDA)
    list(APPEND sources ${cuda_sources})
  endif()
  if(ARG_OBJECTS)
    set(objects ${sources})
    list(FILTER objects INCLUDE REGEX ${ARG_OBJECTS})
    list(FILTER sources EXCLUDE REGEX ${ARG_OBJECTS})
    add_library(stemfabric_${name}_objects OBJECT ${objects})
    target_link_libraries(stemfabric_${name}_objects PRIVATE ${ARG_DEPENDS} stemfabric_flags)
    list(APPEND sources $<TARGET_OBJECTS:stemfabric_${name}_objects>)
  endif()
  add_library(stemfabric_${name} STATIC ${sources})
  target_include_directories(stemfabric_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(stemfabric_${name} PUBLIC ${ARG_DEPENDS} PRIVATE stemfabric_flags)
endfunction()

# Flags of tests' own sources: what they compute is little, and compiling them is half of a build.
add_library(stemfabric_test_flags INTERFACE)
target_link_libraries(stemfabric_test_flags INTERFACE stemfabric_flags)
target_compile_options(stemfabric_test_flags INTERFACE -O1)

# sf_add_test(name SOURCES... LIBS... [PREFIX p] [FILTER f]): one GoogleTest program, its cases (or
# those that the filter lets through) known to ctest, with the program's name as their label. Under a
# sanitizer a process takes long to start: there a test of ctest is a share of the program's cases, not one.
function(sf_add_test name)
  cmake_parse_arguments(ARG "" "PREFIX;FILTER" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} stemfabric_test_flags GTest::gtest GTest::gmock GTest::gtest_main)
  if(NOT STEMFABRIC_SANITIZE)
    gtest_discover_tests(${name} TEST_PREFIX "${ARG_PREFIX}" TEST_FILTER "${ARG_FILTER}" DISCOVERY_TIMEOUT 120
      PROPERTIES TIMEOUT 900 LABELS ${name})
    return()
  endif()
  set(shares 12)
  if(NOT ARG_FILTER)
    set(ARG_FILTER *)
  endif()
  foreach(share RANGE 1 ${shares})
    math(EXPR index "${share} - 1")
    add_test(NAME ${ARG_PREFIX}${name}.${share} COMMAND ${name} --gtest_filter=${ARG_FILTER} --gtest_brief=1)
    set_tests_properties(${ARG_PREFIX}${name}.${share} PROPERTIES TIMEOUT 1800 LABELS ${name}
      ENVIRONMENT "GTEST_TOTAL_SHARDS=${shares};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()

# sf_package(target): the program goes into the relocatable package (scripts/package.sh), as bin/<target>.
# Shared libraries are looked for in lib/ beside it first, also those that they need themselves
# (RPATH, not RUNPATH). Where there is MPI its module lies there too: it is loaded by its name.
function(sf_package target)
  set_target_properties(${target} PROPERTIES INSTALL_RPATH "$ORIGIN/../lib")
  target_link_options(${target} PRIVATE -Wl,--disable-new-dtags)
  install(TARGETS ${target} RUNTIME DESTINATION bin COMPONENT package)
endfunction()
