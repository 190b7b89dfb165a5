#include "trainer/stems.h"
