/* choices — which option of each question is the most likely, and how often that is the right one. */
#pragma once
#include "store/requests.h"

typedef struct Choices {
  int64_t questions;    /* with at least two options, one of them gold */
  double acc, acc_se;   /* share in which the most likely one is gold; standard error over questions */
  double norm, norm_se; /* the same by log-likelihood per byte; NaN without bytes */
} Choices;

/** choices_of — from ll[n]; the first of equal ones. Without option_of or gold there are no questions. ERR_MEMORY */
int choices_of(Choices *c, const Requests *r, const double *ll);
