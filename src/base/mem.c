/* mem — aligned to more than any cache line or vector register, as devices prefer; zeroed, so that no result depends
 * on previous contents. */
#include "base/mem.h"

#include "base/err.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ALIGN = 256 };

static atomic_size_t count;

static void *take(size_t bytes) {
  if (bytes > PTRDIFF_MAX - ALIGN) return NULL; /* no object is larger */
  return aligned_alloc(ALIGN, (bytes + ALIGN - 1) / ALIGN * ALIGN);
}

static int refuse(size_t bytes) {
  const double mib = 1024.0 * 1024.0;
  return RAISE(ERR_MEMORY, "out of memory: %.1f MiB asked for, about %.1f MiB available", (double)bytes / mib,
               (double)mem_available() / mib);
}

int mem_alloc(void *p, size_t bytes) {
  void *new = NULL;
  atomic_fetch_add(&count, 1);
  if (bytes > 0) {
    new = take(bytes);
    if (!new) return refuse(bytes);
    memset(new, 0, bytes);
  }
  memcpy(p, &new, sizeof new); /* p points to a pointer of any type */
  return OK;
}

int mem_realloc(void *p, size_t old, size_t bytes) {
  void *from;
  memcpy(&from, p, sizeof from);
  ASSERT(from || old == 0);
  void *to = NULL;
  TRY(mem_alloc(&to, bytes));
  size_t keep = old < bytes ? old : bytes;
  if (keep > 0) memcpy(to, from, keep);
  free(from);
  memcpy(p, &to, sizeof to);
  return OK;
}

void mem_free(void *p) {
  void *from, *none = NULL;
  if (!p) return;
  memcpy(&from, p, sizeof from);
  free(from);
  memcpy(p, &none, sizeof none);
}

int mem_strdup(char **p, const char *s) {
  size_t bytes = strlen(s) + 1;
  TRY(mem_alloc(p, bytes));
  memcpy(*p, s, bytes);
  return OK;
}

size_t mem_count(void) { return atomic_load(&count); }

size_t mem_resident(void) {
  unsigned long size = 0, resident = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (!f) return 0;
  if (fscanf(f, "%lu %lu", &size, &resident) != 2) resident = 0;
  fclose(f);
  return (size_t)resident * (size_t)sysconf(_SC_PAGESIZE);
}

static size_t meminfo(const char *format) {
  char line[256];
  unsigned long kib = 0;
  FILE *f = fopen("/proc/meminfo", "r");
  if (!f) return 0;
  while (fgets(line, sizeof line, f))
    if (sscanf(line, format, &kib) == 1) break;
  fclose(f);
  return (size_t)kib * 1024;
}

size_t mem_available(void) { return meminfo("MemAvailable: %lu kB"); }

size_t mem_total(void) { return meminfo("MemTotal: %lu kB"); }
