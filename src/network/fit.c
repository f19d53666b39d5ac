#include "network/fit.h"
#include "base/err.h"
#include <stdio.h>

/* Whether the network and `flats` more buffers fit, with some room for the libraries' own memory. */
static bool fits(const NetworkOptions *options, int64_t flats) {
  const size_t LEAST = (size_t)256 << 20, SHARE = 64;
  Network n;
  void *more = NULL;
  if (network_create(&n, options) != OK) return false;
  size_t free = 0, total = 0;
  bool good = n.dev.ops->host || device_memory(&n.dev, &free, &total) == OK;
  size_t room = total / SHARE > LEAST ? total / SHARE : LEAST;
  size_t bytes = (size_t)flats * tensor_bytes(n.model.params.value) + room;
  good = good && device_alloc(&n.dev, &more, bytes) == OK;
  device_release(&n.dev, more, bytes);
  network_destroy(&n);
  return good;
}

int network_too_large(const NetworkOptions *options, const char *key, int64_t of, int64_t flats) {
  char why[512];
  NetworkOptions less = *options;
  bool good = false;
  snprintf(why, sizeof why, "%s", err_message());
  for (int64_t b = options->batch / 2; b > 0 && !good; b--) {
    less.batch = b;
    if (of ? of % b == 0 : (b & (b - 1)) == 0) good = fits(&less, flats);
  }
  err_clear();
  CHECK(good, ERR_MEMORY, "%s; no %s is small enough: take a smaller network%s or a larger device", why, key,
        options->draws > 1 ? ", fewer train.draws" : "");
  return RAISE(ERR_MEMORY, "%s; %s = %lld does not fit, %s = %lld does", why, key, (long long)options->batch, key,
               (long long)less.batch);
}
