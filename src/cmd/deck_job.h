/* deck_job — the job of a sampler as the deck's section `sample` describes it. */
#pragma once
#include "network/network.h"
#include "sampling/job.h"

/** deck_job — all but which samples, where they go, and the progress. The pointers are those of the network. */
SamplerJob deck_job(const Config *cfg, Network *net);
