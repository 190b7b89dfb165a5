# sf_add_layer(name [DEPENDS targets...]): the static library stemfabric_<name> of one layer.
# Every *.cpp below the folder belongs to it; *_cuda.cpp and *.cu only when CUDA is on.
function(sf_add_layer name)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  set(root ${CMAKE_SOURCE_DIR}/${name})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${root}/*.cpp)
  file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${root}/*.cu ${root}/*_cuda.cpp)
  list(FILTER sources EXCLUDE REGEX "_cuda\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "/cli/")
  if(STEMFABRIC_HAVE_CUDA)
    list(APPEND sources ${cuda_sources})
  endif()
  add_library(stemfabric_${name} STATIC ${sources})
  target_include_directories(stemfabric_${name} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(stemfabric_${name} PUBLIC ${ARG_DEPENDS} PRIVATE stemfabric_flags)
endfunction()

# sf_add_test(name SOURCES... LIBS...): one GoogleTest program, its cases known to ctest.
function(sf_add_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_LIBS} stemfabric_flags GTest::gtest GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 120 PROPERTIES TIMEOUT 900)
endfunction()
