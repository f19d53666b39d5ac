/* toy_network — the small networks for the tests that every network must pass; a new network needs a row in the table.
 */
#pragma once
#include "toy.h"

typedef struct ToyNetwork {
  const char *name, *objective;
  bool timed;       /* can be conditioned on time */
  int64_t heads;    /* dimamba: 5 does not divide TOY_D, but must be ignored */
  double gain;      /* of toy_weights; larger values make the loss too nonlinear for finite differences */
  int64_t every;    /* width of the network in which every element is differentiated */
  double f32, bf16; /* bounds on the differences of gradients from those in f64 */
} ToyNetwork;

/** toy_network — the network `name`: toy_dit with the name, heads and objective of its row. */
Toy toy_network(const char *name, const char *backend, bool time_conditioning);
/** toy_network_open — toy_open, then toy_weights with the row's gain. */
void toy_network_open(Network *n, const Toy *toy);
/** toy_network_skip_slow — skip the test of a network that is slow on an emulated device, where LONG=1 is not set. */
void toy_network_skip_slow(const ToyNetwork *x);
/** toy_networks_main — run every test for every row, which is the test's *state; the exit status of main. */
int toy_networks_main(const struct CMUnitTest *tests, int count);

/** toy_fill — set elements first … first+count−1 of a parameter to value. */
void toy_fill(Network *n, int64_t first, int64_t count, double value, const char *name_format, ...)
    __attribute__((format(printf, 5, 6)));
/** toy_dropouts_differ — fail unless the network's four dropouts use different random bits. The weights must be such
 *  that the four branches add 1, 2, 4 and 8 to every unit of a zero residual stream and the final norm's weight is 1.
 */
void toy_dropouts_differ(Network *n);
