// cuBLASLt is loaded at its first call; only builds with CUDA have it.
#if SF_HAVE_CUDA
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <string>

#include "runtime/core/check.h"

namespace stemfabric {
namespace {

TEST(CublasLt, IsThatOfTheHeaderOrSaysWhatIsMissing) {
  try {
    EXPECT_EQ(cublasLtGetVersion() / 10000, CUBLAS_VER_MAJOR);
    EXPECT_NE(std::string(cublasLtGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED)), "");
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("put the folder of libcublasLt.so"), std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace stemfabric
#endif
