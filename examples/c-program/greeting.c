#include "greeting.h"

const char *greeting(int count) { return count > 1 ? "hello to each of you" : "hello"; }
