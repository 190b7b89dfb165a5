#include "kernels/linear/linear.h"
