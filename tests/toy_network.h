/* toy_network — the small networks of the tests that hold for every network: a new network gets them by a row. */
#pragma once
#include "toy.h"

typedef struct ToyNetwork {
  const char *name, *objective;
  bool timed;       /* may be told the noise level */
  int64_t heads;    /* 5 would not divide TOY_D: they must be of no meaning */
  double gain;      /* of toy_weights: where it is more, the loss bends too much for the steps of finite differences */
  int64_t every;    /* the width at which every element is differentiated */
  double f32, bf16; /* bounds of what separates gradients from those in f64 */
} ToyNetwork;

/** toy_network — the network of that row: toy_dit with another name and an objective that fits it. */
Toy toy_network(const char *name, const char *backend, bool time_conditioning);
/** toy_network_open — toy_open, and weights of the row's gain. */
void toy_network_open(Network *n, const Toy *toy);
/** toy_networks_main — what main returns: every test for every row, which is its *state. */
int toy_networks_main(const struct CMUnitTest *tests, int count);

/** toy_fill — elements first … first+count−1 of a parameter. */
void toy_fill(Network *n, int64_t first, int64_t count, double value, const char *name_format, ...)
    __attribute__((format(printf, 5, 6)));
/** toy_dropouts_differ — fail unless each of a network's four dropouts has bits of its own. Its weights must be such
 * that the four branches add 1, 2, 4 and 8 to every unit of a zero stream and the final norm's weight is 1. */
void toy_dropouts_differ(Network *n);
