/* profile_norms — the size of the residual stream in a pass of the network: for each sequence the sum of squares at its
 * predicted positions, after every branch. */
#pragma once
#include "network/network.h"

typedef struct ProfileNorms {
  Network *net; /* not owned */
  Arena arena;
  Tensor x, terms; /* [capacity, D] real: the stream at the predicted positions; f64: scratch of the sums */
  Tensor sums;     /* [seams, batch] f64 */
  int64_t seams;   /* most: 0, 1, … branches, two a block */
  int64_t *rows;   /* [batch] predicted positions */
  double *squares; /* [seams, batch] of the last pass; 0 where the network has fewer seams */
} ProfileNorms;

/** profile_norms_create — memory on the device as for one activation of the network. ERR_MEMORY */
int profile_norms_create(ProfileNorms *n, Network *net);
void profile_norms_destroy(ProfileNorms *n);
/** profile_norms_begin — the next network_predict gives squares and rows of its sequences. */
int profile_norms_begin(ProfileNorms *n);
/** profile_norms_end — they are there. ERR_DEVICE */
int profile_norms_end(ProfileNorms *n);
