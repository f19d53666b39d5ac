/* samples — how long a sampler takes on a network that was not trained. */
#pragma once
#include "base/config.h"
#include "network/network.h"

typedef struct Samples {
  double seconds;                       /* of all of them */
  int64_t passes, sequences, allocated; /* of the network; sequences in them; bytes of device memory at the end */
} Samples;

/** samples_time — section `sample` of the deck: count samples by the sampler in so many steps, as many at a time as the
 *  network takes.
 *  Errors  those of sampler_create, sampler_run */
int samples_time(Samples *s, Network *net, const Config *cfg);
