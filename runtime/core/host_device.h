// SF_HOST_DEVICE before a function that kernels call too; nothing where nvcc does not compile.
#pragma once

#if defined(__CUDACC__)
#define SF_HOST_DEVICE __host__ __device__
#else
#define SF_HOST_DEVICE
#endif
