/* A driver that is there but cannot do anything: what it reports comes from the environment.
   STUB_DRIVER: the CUDA version it supports, as 1000 * major + 10 * minor. STUB_INIT: what cuInit returns. */
#include <stdlib.h>
#include <string.h>

static int number(const char *name, int fallback) {
  const char *text = getenv(name);
  return text ? atoi(text) : fallback;
}

int cuInit(unsigned flags) { (void)flags; return number("STUB_INIT", 100); }
int cuDriverGetVersion(int *version) { *version = number("STUB_DRIVER", 13000); return 0; }
int cuDeviceGetCount(int *count) { *count = 0; return 0; }
int cuGetErrorString(int error, const char **text) { (void)error; *text = "an error of the stub"; return 0; }
int cuGetErrorName(int error, const char **text) { (void)error; *text = "STUB_ERROR"; return 0; }
int cuGetExportTable(const void **table, const void *id) { (void)id; *table = 0; return 500; }

static int everything_else(void) { return number("STUB_INIT", 100); }

int cuGetProcAddress(const char *symbol, void **function, int version, unsigned long long flags) {
  (void)version; (void)flags;
  static const struct { const char *name; void *function; } known[] = {
    {"cuInit", (void *)cuInit}, {"cuDriverGetVersion", (void *)cuDriverGetVersion},
    {"cuDeviceGetCount", (void *)cuDeviceGetCount}, {"cuGetExportTable", (void *)cuGetExportTable},
    {"cuGetErrorString", (void *)cuGetErrorString}, {"cuGetErrorName", (void *)cuGetErrorName},
    {"cuGetProcAddress", (void *)cuGetProcAddress},
  };
  *function = (void *)everything_else;
  for (unsigned i = 0; i < sizeof known / sizeof *known; ++i)
    if (!strcmp(symbol, known[i].name)) *function = known[i].function;
  return 0;
}

int cuGetProcAddress_v2(const char *symbol, void **function, int version, unsigned long long flags, int *status) {
  if (status) *status = 0;
  return cuGetProcAddress(symbol, function, version, flags);
}
